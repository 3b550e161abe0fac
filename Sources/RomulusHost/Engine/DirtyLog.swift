import CXen
import RomulusCore

/// The hypervisor's log of the guest's writes (XEN_DOMCTL_shadow_op), and the bitmap that it is read into.
final class DirtyLog {
    private let interface: OpaquePointer?
    private let domain: UInt32
    private(set) var pageCount: Int
    private var words: UnsafeMutablePointer<UInt64>
    private let buffer: UnsafeMutablePointer<xc_hypercall_buffer_t>
    private var bufferPages: Int32
    private var isOn = false

    /// - Parameter pageCount: the guest's PFNs, from 0.
    init(_ interface: OpaquePointer?, _ domain: UInt32, pageCount: Int) throws(SystemError) {
        self.interface = interface
        self.domain = domain
        self.pageCount = pageCount
        bufferPages = Self.pages(for: pageCount)
        buffer = .allocate(capacity: 1)
        do throws(SystemError) {
            words = try Self.allocate(interface, buffer, bufferPages)
        } catch {
            buffer.deallocate()
            throw error
        }
    }

    private static func pages(for pageCount: Int) -> Int32 { Int32((pageCount + 32767) / 32768) }

    /// As DECLARE_HYPERCALL_BUFFER has it: memory of libxenctrl's own, which is not copied at each call.
    private static func allocate(
        _ interface: OpaquePointer?, _ buffer: UnsafeMutablePointer<xc_hypercall_buffer_t>, _ pages: Int32
    ) throws(SystemError) -> UnsafeMutablePointer<UInt64> {
        buffer.initialize(to: xc_hypercall_buffer_t())
        buffer.pointee.ubuf = UnsafeMutableRawPointer(bitPattern: -1)
        guard let memory = xc__hypercall_buffer_alloc_pages(interface, buffer, pages) else {
            throw SystemError("xc_hypercall_buffer_alloc_pages")
        }
        return memory.assumingMemoryBound(to: UInt64.self)
    }

    /// The guest's frame numbers go further than they did; what was read is forgotten.
    func grow(pageCount: Int) throws(SystemError) {
        if Self.pages(for: pageCount) > bufferPages {
            xc__hypercall_buffer_free_pages(interface, buffer, bufferPages)
            bufferPages = 0
            words = try Self.allocate(interface, buffer, Self.pages(for: pageCount))
            bufferPages = Self.pages(for: pageCount)
        }
        self.pageCount = pageCount
    }

    deinit {
        if isOn { xc_shadow_control(interface, domain, UInt32(XEN_DOMCTL_SHADOW_OP_OFF), nil, 0) }
        if bufferPages > 0 { xc__hypercall_buffer_free_pages(interface, buffer, bufferPages) }
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
