/// Which network device of which guest; `vif5.0`, and `vif5.0-emu` for the card that a device model emulates.
struct VifName: Equatable {
    var domainID: UInt32
    var deviceID: Int
    var isEmulated: Bool

    /// Of the card that a device model emulates, behind the name of the device that it stands for.
    static let emulatedSuffix = "-emu"

    init(domainID: UInt32, deviceID: Int, isEmulated: Bool = false) {
        self.domainID = domainID
        self.deviceID = deviceID
        self.isEmulated = isEmulated
    }

    /// By the name that Xen gives a device unless the guest's configuration says otherwise.
    init?(of device: String) {
        let isEmulated = device.hasSuffix(Self.emulatedSuffix)
        self.init(numbers: isEmulated ? device.dropLast(4) : device[...], behind: "vif", isEmulated: isEmulated)
    }

    /// By what xenstore, and so the kernel, calls the device's backend: "backend/vif/5/0".
    init?(ofBackend path: String) {
        let parts = path.split(whereSeparator: { $0 == "/" || $0 == "\n" })
        guard parts.count == 4, parts[0] == "backend", parts[1] == "vif" else { return nil }
        self.init(numbers: "\(parts[2]).\(parts[3])", behind: "", isEmulated: false)
    }

    init?(ofIFB device: String) {
        let isEmulated = device.hasSuffix("e")
        self.init(numbers: isEmulated ? device.dropLast() : device[...], behind: "rom", isEmulated: isEmulated)
    }

    private init?(numbers text: Substring, behind prefix: String, isEmulated: Bool) {
        guard text.hasPrefix(prefix) else { return nil }
        let parts = text.dropFirst(prefix.count).split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 2, let domainID = UInt32(parts[0]), let deviceID = Int(parts[1]), deviceID >= 0 else {
            return nil
        }
        self.init(domainID: domainID, deviceID: deviceID, isEmulated: isEmulated)
    }

    /// At most 15 characters, as the kernel wants it: domains have five digits, devices rarely more than one.
    var ifb: String { "rom\(domainID).\(deviceID)\(isEmulated ? "e" : "")" }
}
