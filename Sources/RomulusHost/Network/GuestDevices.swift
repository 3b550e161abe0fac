/// Which of a host's network devices are one guest's.
///
/// Names do not tell: an admin may choose them (`vifname=`), and change them. The kernel knows whose backend a device is;
/// of a device model's it does not, and those are known by the name that xl gives them, which follows from the backend's.
struct GuestDevices {
    let domainID: UInt32
    let store: NetbufStore

    typealias Found = [(vif: NetworkDevice, name: VifName)]

    func found(among devices: [NetworkDevice]) -> Found {
        let chosen = store.renamed()
        return devices.compactMap { device in name(of: device, chosen).map { (device, $0) } }
    }

    private func name(of device: NetworkDevice, _ chosen: [String: Int]) -> VifName? {
        if device.isIFB { return nil }
        let name = device.backend ?? chosenName(device.name, chosen) ?? VifName(of: device.name)
        return name?.domainID == domainID ? name : nil
    }

    private func chosenName(_ name: String, _ chosen: [String: Int]) -> VifName? {
        if let deviceID = chosen[name] { return VifName(domainID: domainID, deviceID: deviceID) }
        let suffix = VifName.emulatedSuffix
        guard name.hasSuffix(suffix), let deviceID = chosen[String(name.dropLast(suffix.count))] else { return nil }
        return VifName(domainID: domainID, deviceID: deviceID, isEmulated: true)
    }
}
