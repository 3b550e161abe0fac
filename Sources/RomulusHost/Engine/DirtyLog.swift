import CXen
import RomulusCore

/// The hypervisor's log of the guest's writes (XEN_DOMCTL_shadow_op), and the bitmap that it is read into.
final class DirtyLog {
    private let interface: OpaquePointer?
    private let domain: UInt32
    private let pageCount: Int
    private let words: UnsafeMutablePointer<UInt64>
    private let buffer: UnsafeMutablePointer<xc_hypercall_buffer_t>
    private let bufferPages: Int32
    private var isOn = false

    /// - Parameter pageCount: the guest's PFNs, from 0.
    init(_ interface: OpaquePointer?, _ domain: UInt32, pageCount: Int) throws(SystemError) {
        self.interface = interface
        self.domain = domain
        self.pageCount = pageCount
        bufferPages = Int32((pageCount + 32767) / 32768)
        buffer = .allocate(capacity: 1)
        // As DECLARE_HYPERCALL_BUFFER has it: memory of libxenctrl's own, which is not copied at each call.
        buffer.initialize(to: xc_hypercall_buffer_t())
        buffer.pointee.ubuf = UnsafeMutableRawPointer(bitPattern: -1)
        guard let memory = xc__hypercall_buffer_alloc_pages(interface, buffer, bufferPages) else {
            buffer.deallocate()
            throw SystemError("xc_hypercall_buffer_alloc_pages")
        }
        words = memory.assumingMemoryBound(to: UInt64.self)
    }

    deinit {
        if isOn { xc_shadow_control(interface, domain, UInt32(XEN_DOMCTL_SHADOW_OP_OFF), nil, 0) }
        xc__hypercall_buffer_free_pages(interface, buffer, bufferPages)
        buffer.deallocate()
    }

    func start() throws(SystemError) {
        let enable = UInt32(XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY)
        if xc_shadow_control(interface, domain, enable, nil, 0) < 0 {
            // A log for somebody else may be on, such as a device model's for its screen.
            xc_shadow_control(interface, domain, UInt32(XEN_DOMCTL_SHADOW_OP_OFF), nil, 0)
            guard xc_shadow_control(interface, domain, enable, nil, 0) >= 0 else {
                throw SystemError("the hypervisor does not log the guest's writes")
            }
        }
        isOn = true
    }

    /// Reads the log and begins it anew.
    ///
    /// - Parameter isFinal: whether the guest stands still.
    /// - Returns: how many pages were written since the last time.
    func take(isFinal: Bool) throws(SystemError) -> Int {
        var statistics = xc_shadow_op_stats_t()
        let pages = xc_logdirty_control(
            interface, domain, UInt32(XEN_DOMCTL_SHADOW_OP_CLEAN), buffer, UInt(pageCount),
            isFinal ? UInt32(XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL) : 0, &statistics)
        guard pages == pageCount else { throw SystemError("the log of the guest's writes cannot be read") }
        return Int(statistics.dirty_count)
    }

    var scan: DirtyScan { DirtyScan(words: words, pageCount: pageCount) }
}
