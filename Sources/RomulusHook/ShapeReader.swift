import CXen
import Glibc
import RomulusCore
import RomulusHost

/// Reads a guest's shape, for a thread that must not touch libxl's context: made before that thread, and gone after it, for the
/// reason that `XenstoreConnection` has.
final class ShapeReader: @unchecked Sendable {
    private let domainID: UInt32
    // Used by one thread at a time.
    private let interface: OpaquePointer?
    private let store = XenstoreConnection()

    init(domainID: UInt32) {
        self.domainID = domainID
        interface = xc_interface_open(nil, nil, 0)
    }

    deinit { xc_interface_close(interface) }

    /// - Returns: nil where the domain has gone, or is going, or xenstore does not answer.
    func shape() -> GuestShape? {
        guard let info = xc_dominfo_t(of: domainID, interface), info.dying == 0, let devices = devices() else {
            return nil
        }
        return GuestShape(devices: devices, processors: processors, mostMemoryKiB: UInt64(info.max_memkb))
    }

    private func devices() -> Set<String>? {
        let path = "/libxl/\(domainID)/device"
        var devices: Set<String> = []
        guard let kinds = store.entries(of: path) else { return nil }
        for kind in kinds {
            guard let numbers = store.entries(of: "\(path)/\(kind)") else { return nil }
            devices.formUnion(numbers.map { "\(kind) \($0)" })
        }
        return devices
    }

    private var processors: [Int: Bool] {
        let path = "/local/domain/\(domainID)/cpu"
        var processors: [Int: Bool] = [:]
        for entry in store.entries(of: path) ?? [] {
            if let number = Int(entry), let availability = store.read("\(path)/\(entry)/availability") {
                processors[number] = availability == "online"
            }
        }
        return processors
    }
}
