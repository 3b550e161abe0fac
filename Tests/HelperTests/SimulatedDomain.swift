import Foundation
import SimulatedXen

/// A simulated domain's file, mapped here as the helper maps it; the test plays guest and hypervisor's clock on it.
///
/// Sendable because everything that changes while a helper or a guest thread runs goes through the atomic functions of
/// simulatedxen.h, and because the mapping lives as long as the object.
final class SimulatedDomain: @unchecked Sendable {
    static let pageLengthBytes = Int(SIMXEN_PAGE_LENGTH)
    /// Where a PC has its VGA window: no RAM, so the stream has XTAB there.
    static let holes = 0xa0..<0xc0

    let path: String
    let raw: UnsafeMutablePointer<simxen_domain>
    private let lengthBytes: Int

    var pageCount: Int { Int(raw.pointee.page_count) }
    var domid: UInt32 { raw.pointee.domid }
    var isRunning: Bool { simxen_runs(raw) != 0 }
    var isSuspended: Bool { simxen_load(&raw.pointee.shutdown) != 0 && !hasCrashed }
    var hasCrashed: Bool { simxen_load(&raw.pointee.shutdown_reason) == SIMXEN_SHUTDOWN_CRASH }
    var isPaused: Bool { simxen_load(&raw.pointee.pause_count) != 0 }
    var isLogDirty: Bool { simxen_load(&raw.pointee.log_dirty) != 0 }
    var context: Data { Data(bytes: simxen_context(raw), count: Int(raw.pointee.context_length)) }

    /// An empty domain of holes, as libxl creates it before a restore.
    init(emptyAt path: String, domid: UInt32, pageCount: Int) throws {
        var layout = simxen_domain()
        simxen_lay_out(&layout, domid, UInt64(pageCount))
        let descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw SystemFailure("open \(path)") }
        defer { close(descriptor) }
        guard ftruncate(descriptor, off_t(layout.file_length)) == 0 else { throw SystemFailure("ftruncate \(path)") }
        guard pwrite(descriptor, &layout, MemoryLayout<simxen_domain>.size, 0) == MemoryLayout<simxen_domain>.size
        else { throw SystemFailure("pwrite \(path)") }
        self.path = path
        (raw, lengthBytes) = try Self.map(descriptor)
    }

    /// An existing file, such as a copy made by `copy(to:)`.
    init(existingAt path: String) throws {
        let descriptor = open(path, O_RDWR | O_CLOEXEC)
        guard descriptor >= 0 else { throw SystemFailure("open \(path)") }
        defer { close(descriptor) }
        self.path = path
        (raw, lengthBytes) = try Self.map(descriptor)
    }

    /// A running PVH guest with content that depends on `seed` alone. Its last two pages are the xenstore's and the
    /// console's, which a restore clears; nobody writes to the one before them.
    ///
    /// - Parameter void: frame numbers without a page, besides the usual hole.
    convenience init(
        guestAt path: String, domid: UInt32, pageCount: Int, seed: UInt64, void: Range<Int> = 0..<0
    ) throws {
        precondition(pageCount >= Self.holes.upperBound + 3, "room for the hole and the special pages")
        try self.init(emptyAt: path, domid: domid, pageCount: pageCount)
        let types = simxen_types(raw)!
        for page in 0..<pageCount where !Self.holes.contains(page) && !void.contains(page) {
            types[page] = UInt8(SIMXEN_PAGE_RAM.rawValue)
            simxen_fill_page(raw, UInt64(page), seed)
        }
        var state = seed
        for offset in 0..<1_000 { simxen_context(raw)[offset] = UInt8(truncatingIfNeeded: simxen_random(&state)) }
        raw.pointee.context_length = 1_000
        raw.pointee.tsc_khz = 2_400_000
        raw.pointee.tsc_incarnation = 1
        simxen_set_param(raw, Parameter.storePage, UInt64(pageCount - 2))
        simxen_set_param(raw, Parameter.consolePage, UInt64(pageCount - 1))
        simxen_set_param(raw, Parameter.sharingPage, UInt64(pageCount - 3))
        simxen_set_param(raw, Parameter.callbackInterrupt, 0x0200_0000_0000_00f3)
    }

    deinit { munmap(raw, lengthBytes) }

    /// The domain as it is now, in another file. The guest should be suspended.
    func copy(to path: String) throws -> SimulatedDomain {
        try FileManager.default.copyItem(atPath: self.path, toPath: path)
        return try SimulatedDomain(existingAt: path)
    }

    /// Suspends the guest, as if it had answered xenstore's request, and waits until its threads stand still.
    func suspend() throws {
        simxen_suspend(raw)
        guard simxen_settle(raw) == 0 else { throw HelperTestError.guestDoesNotStandStill }
    }

    func resume() { simxen_resume(raw) }

    /// As xc_domain_pause: as often as it is called, so often it must be undone.
    func pause() -> Bool { simxen_change_pause_count(raw, 1) == 0 }
    func unpause() -> Bool { simxen_change_pause_count(raw, -1) == 0 }

    /// Writes into `count` pages chosen by `generator`, special pages excepted, and marks them dirty.
    /// Returns false when the domain was suspended or paused before it was done.
    @discardableResult
    func dirty(_ count: Int, wordsPerPage: Int = 8, using generator: inout SeededGenerator) -> Bool {
        for _ in 0..<count {
            let page = generator.next(below: UInt64(pageCount - 3))
            guard simxen_types(raw)[Int(page)] == UInt8(SIMXEN_PAGE_RAM.rawValue) else { continue }
            guard simxen_guest_enter(raw) != 0 else { return false }
            simxen_scribble(raw, page, &generator.state, UInt32(wordsPerPage))
            simxen_mark_dirty(raw, page)
            simxen_guest_leave(raw)
        }
        return true
    }

    /// Pages whose kind or content differs, without the xenstore's and the console's.
    func differingPages(from other: SimulatedDomain) -> [Int] {
        precondition(pageCount == other.pageCount)
        let special = [Parameter.storePage, Parameter.consolePage].map { Int(simxen_param(raw, $0)) }
        let (types, otherTypes) = (simxen_types(raw)!, simxen_types(other.raw)!)
        return (0..<pageCount).filter { page in
            guard !special.contains(page) else { return false }
            guard types[page] == otherTypes[page] else { return true }
            guard types[page] == UInt8(SIMXEN_PAGE_RAM.rawValue) else { return false }
            return memcmp(simxen_page(raw, UInt64(page)), simxen_page(other.raw, UInt64(page)), Self.pageLengthBytes)
                != 0
        }
    }

    func calls(_ call: simxen_call) -> Int { Int(simxen_call_count(raw, call)) }

    /// HVM parameters of xen/hvm/params.h.
    enum Parameter {
        static let callbackInterrupt: UInt32 = 0
        static let storePage: UInt32 = 1
        static let consolePage: UInt32 = 17
        static let sharingPage: UInt32 = 29
    }

    private static func map(_ descriptor: Int32) throws -> (UnsafeMutablePointer<simxen_domain>, Int) {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw SystemFailure("fstat") }
        let length = Int(status.st_size)
        guard length >= MemoryLayout<simxen_domain>.size,
            let address = mmap(nil, length, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0), address != MAP_FAILED
        else { throw SystemFailure("mmap") }
        let domain = address.assumingMemoryBound(to: simxen_domain.self)
        guard domain.pointee.magic == SIMXEN_MAGIC, domain.pointee.file_length == UInt64(length) else {
            munmap(address, length)
            throw HelperTestError.notASimulatedDomain
        }
        return (domain, length)
    }
}
