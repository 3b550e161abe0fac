/// Which of a host's network devices are one guest's.
///
/// Names do not tell: an admin may choose them (`vifname=`), and change them. The kernel knows whose backend a device is;
/// of a device model's it does not, and those are known by the name that xl gives them, which follows from the backend's.
struct GuestDevices {
    let domainID: UInt32
    /// As they were at the start: a device that comes later is netback's, and known by the kernel; xenstore may take its time.
    private let chosen: [String: Int]

    init(domainID: UInt32, store: NetbufStore) {
        self.domainID = domainID
        chosen = store.renamed()
    }

    typealias Found = [(vif: NetworkDevice, name: VifName)]

    func found(among devices: [NetworkDevice]) -> Found {
        devices.compactMap { device in name(of: device).map { (device, $0) } }
    }

    private func name(of device: NetworkDevice) -> VifName? {
        if device.isIFB { return nil }
        let name = device.backend ?? chosenName(device.name) ?? VifName(of: device.name)
        return name?.domainID == domainID ? name : nil
    }

    private func chosenName(_ name: String) -> VifName? {
        if let deviceID = chosen[name] { return VifName(domainID: domainID, deviceID: deviceID) }
        let suffix = VifName.emulatedSuffix
        guard name.hasSuffix(suffix), let deviceID = chosen[String(name.dropLast(suffix.count))] else { return nil }
        return VifName(domainID: domainID, deviceID: deviceID, isEmulated: true)
    }
}
