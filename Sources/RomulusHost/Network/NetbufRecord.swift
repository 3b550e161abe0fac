import CXen
import Glibc

/// What xenstore knows of a guest's network devices. Several threads may ask at once, as libxenstore allows.
public final class NetbufRecord: Sendable {
    private let domainID: UInt32
    private let connection = XenstoreConnection()
    private let scribe: Scribe?

    /// - Parameter scribe: what writes to xenstore, where whoever tells must not wait for it.
    public init(domainID: UInt32, scribe: Scribe? = nil) {
        self.domainID = domainID
        self.scribe = scribe
    }

    public var store: NetbufStore {
        NetbufStore(path: path, setIFB: setIFB, ifb: ifb, renamed: renamed, domainExists: domainExists)
    }

    /// As stock libxl has it.
    private func path(_ device: Int) -> String { "/libxl/\(domainID)/remus/netbuf/\(device)" }

    /// For people and tools that look: a xenstore that does not answer is no failure.
    private func setIFB(device: Int, _ name: String?) {
        guard let scribe else { return write(device, name) }
        scribe.take { [self] in write(device, name) }
    }

    private func write(_ device: Int, _ name: String?) {
        if let name {
            connection.write(path(device) + "/ifb", name)
        } else if let handle = connection.handle {
            xs_rm(handle, XenstoreConnection.noTransaction, path(device))
        }
    }

    private func ifb(device: Int) -> String? { connection.read(path(device) + "/ifb") }

    private func domainExists(_ domainID: UInt32) -> Bool {
        connection.handle == nil || connection.read("/local/domain/\(domainID)/domid") != nil || errno != ENOENT
    }

    /// The names of devices that the guest's configuration has chosen.
    private func renamed() -> [String: Int] {
        let backends = "/local/domain/0/backend/vif/\(domainID)"
        var names: [String: Int] = [:]
        for entry in connection.entries(of: backends) ?? [] {
            if let device = Int(entry), let name = connection.read("\(backends)/\(entry)/vifname") {
                names[name] = device
            }
        }
        return names
    }
}
