import CXen
import Glibc

/// Where stock libxl keeps which IFB buffers which vif: `/libxl/DOMID/remus/netbuf/DEVID/ifb` in xenstore.
struct NetbufRecord {
    let domainID: UInt32
    /// XBT_NULL.
    private let noTransaction: xs_transaction_t = 0

    init(domainID: UInt32) { self.domainID = domainID }

    private func path(_ device: Int) -> String { "/libxl/\(domainID)/remus/netbuf/\(device)" }

    /// For people and tools that look; nothing here depends on it, so a xenstore that does not answer is no failure.
    func set(device: Int, ifb: String?) {
        guard let store = xs_open(0) else { return }
        defer { xs_close(store) }
        guard let ifb else {
            xs_rm(store, noTransaction, path(device))
            return
        }
        xs_write(store, noTransaction, path(device) + "/ifb", ifb, UInt32(ifb.utf8.count))
    }

    func ifb(device: Int) -> String? {
        guard let store = xs_open(0) else { return nil }
        defer { xs_close(store) }
        var length: UInt32 = 0
        guard let bytes = xs_read(store, noTransaction, path(device) + "/ifb", &length) else { return nil }
        defer { free(bytes) }
        return String(decoding: UnsafeRawBufferPointer(start: bytes, count: Int(length)), as: UTF8.self)
    }
}
