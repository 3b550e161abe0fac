/// What a guest consists of besides its memory's contents. The replica has been given that of the run's beginning, so what comes
/// later is not there after a failover: the guest would find its device without a backend.
public struct GuestShape: Equatable, Sendable {
    /// As `xl` has them: the kind and the number, as in "vif 1".
    public var devices: Set<String>
    /// By their numbers; whether each is plugged in (`xl vcpu-set`).
    public var processors: [Int: Bool]
    /// The most memory that the guest may have (`xl mem-max`).
    public var mostMemoryKiB: UInt64

    public init(devices: Set<String>, processors: [Int: Bool], mostMemoryKiB: UInt64) {
        self.devices = devices
        self.processors = processors
        self.mostMemoryKiB = mostMemoryKiB
    }

    /// What a replica of this shape lacks, or nil. What goes is no matter: a guest that is being destroyed loses one device
    /// after the other, and one that has let go of a device finds it again.
    public func lack(comparedTo now: GuestShape) -> String? {
        let devices = now.devices.subtracting(self.devices).sorted()
        if !devices.isEmpty {
            return devices.joined(separator: ", ") + (devices.count == 1 ? " has come" : " have come")
        }
        let processors = now.processors.filter { self.processors[$0.key] == !$0.value }.keys.sorted()
        if !processors.isEmpty {
            return "processor \(processors.map(String.init).joined(separator: ", ")) was plugged in or out"
        }
        if now.mostMemoryKiB > mostMemoryKiB { return "it may have more memory now" }
        return nil
    }
}
