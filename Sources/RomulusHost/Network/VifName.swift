/// Which network device of which guest; `vif5.0`, and `vif5.0-emu` for the card that a device model emulates.
struct VifName: Equatable {
    var domainID: UInt32
    var deviceID: Int
    var isEmulated: Bool

    init(domainID: UInt32, deviceID: Int, isEmulated: Bool = false) {
        self.domainID = domainID
        self.deviceID = deviceID
        self.isEmulated = isEmulated
    }

    /// By the name that Xen gives a device unless the guest's configuration says otherwise.
    init?(of device: String) {
        let isEmulated = device.hasSuffix("-emu")
        self.init(numbers: isEmulated ? device.dropLast(4) : device[...], behind: "vif", isEmulated: isEmulated)
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
