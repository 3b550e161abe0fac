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
    private var witness: LogWitness?

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
        try plantWitness()
    }

    // MARK: Whether it is ours

    func plantWitness() throws(SystemError) {
        if witness == nil { witness = LogWitness(interface, domain) }
        try witness?.plant()
    }

    /// Looks whether somebody else has used the log since the witness was planted, and leaves it as it is.
    func expectUntouched() throws(SystemError) {
        guard let witness else { return try expectOn() }
        guard try read(XEN_DOMCTL_SHADOW_OP_PEEK, flags: 0) >= 0, witness.isIn(words) else { throw LogWitness.taken }
    }

    /// Where there is no witness (PV): a log that is on cannot be turned on.
    private func expectOn() throws(SystemError) {
        guard xc_shadow_control(interface, domain, UInt32(XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY), nil, 0) >= 0 else {
            return
        }
        xc_shadow_control(interface, domain, UInt32(XEN_DOMCTL_SHADOW_OP_OFF), nil, 0)
        throw LogWitness.taken
    }

    /// It is somebody else's now, who needs what was just taken and turns it off when it is done.
    private func giveBack() {
        isOn = false
        var scan = scan
        while let page = scan.next() { try? LogWitness.mark(page, interface, domain) }
    }

    // MARK: Reading it

    /// Reads the log and begins it anew.
    ///
    /// - Parameter isFinal: whether the guest stands still.
    /// - Returns: how many pages were written since the last time.
    func take(isFinal: Bool) throws(SystemError) -> Int {
        let written = try read(
            XEN_DOMCTL_SHADOW_OP_CLEAN, flags: isFinal ? UInt32(XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL) : 0)
        guard let witness else { return written }
        guard witness.isIn(words) else {
            giveBack()
            throw LogWitness.taken
        }
        words[witness.page / 64] &= ~(1 << UInt64(witness.page % 64))
        try witness.plant()
        return written - 1
    }

    private func read(_ operation: Int32, flags: UInt32) throws(SystemError) -> Int {
        var statistics = xc_shadow_op_stats_t()
        let pages = xc_logdirty_control(
            interface, domain, UInt32(operation), buffer, UInt(pageCount), flags, &statistics)
        guard pages == pageCount else { throw SystemError("the log of the guest's writes cannot be read") }
        return Int(statistics.dirty_count)
    }

    var scan: DirtyScan { DirtyScan(words: words, pageCount: pageCount) }
}
