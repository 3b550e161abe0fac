import CXen
import Glibc
import RomulusHost

/// What xenstore knows of a guest's network devices, by a connection that is made before the relay's thread and goes after it.
///
/// While that thread runs nobody may open or close a handle of Xen's libraries: that takes a lock of theirs
/// (xentoolcore_internal.h), and if libxl forks in the same moment, its child waits for the lock for ever.
final class NetbufRecord: @unchecked Sendable {
    private let domainID: UInt32
    // Used by one thread at a time.
    private let connection: OpaquePointer?
    /// XBT_NULL.
    private let noTransaction: xs_transaction_t = 0

    init(domainID: UInt32) {
        self.domainID = domainID
        connection = xs_open(0)
    }

    deinit { if let connection { xs_close(connection) } }

    var store: NetbufStore { NetbufStore(path: path, setIFB: setIFB, ifb: ifb, renamed: renamed) }

    /// As stock libxl has it.
    private func path(_ device: Int) -> String { "/libxl/\(domainID)/remus/netbuf/\(device)" }

    /// For people and tools that look: a xenstore that does not answer is no failure.
    private func setIFB(device: Int, _ name: String?) {
        withXenstore { store in
            guard let name else {
                xs_rm(store, noTransaction, path(device))
                return
            }
            xs_write(store, noTransaction, path(device) + "/ifb", name, UInt32(name.utf8.count))
        }
    }

    private func ifb(device: Int) -> String? { withXenstore { read($0, path(device) + "/ifb") } ?? nil }

    /// The names of devices that the guest's configuration has chosen.
    private func renamed() -> [String: Int] {
        withXenstore { store in
            let backends = "/local/domain/0/backend/vif/\(domainID)"
            var names: [String: Int] = [:]
            var count: UInt32 = 0
            guard let entries = xs_directory(store, noTransaction, backends, &count) else { return names }
            defer { free(entries) }
            for index in 0..<Int(count) {
                let entry = entries[index].map { String(cString: $0) } ?? ""
                if let device = Int(entry), let name = read(store, "\(backends)/\(entry)/vifname") {
                    names[name] = device
                }
            }
            return names
        } ?? [:]
    }

    private func read(_ store: OpaquePointer, _ path: String) -> String? {
        var length: UInt32 = 0
        guard let bytes = xs_read(store, noTransaction, path, &length) else { return nil }
        defer { free(bytes) }
        return String(decoding: UnsafeRawBufferPointer(start: bytes, count: Int(length)), as: UTF8.self)
    }

    private func withXenstore<Result>(_ body: (OpaquePointer) -> Result) -> Result? { connection.map(body) }
}
