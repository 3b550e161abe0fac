import CXen
import Glibc
import RomulusCore

/// The Remus save of an x86 HVM or PVH guest, in place of xc_domain_save: the same stream, but while the guest stands still
/// its dirty pages are only copied aside; they are written when it runs again.
public final class NativeSave {
    public struct Configuration {
        public var stream: Int32
        public var domain: UInt32
        /// Memory for what is copied while the guest stands still, in bytes. More than that is written at once, and the
        /// guest waits.
        public var stagingBytes: Int

        public init(stream: Int32, domain: UInt32, stagingBytes: Int) {
            self.stream = stream
            self.domain = domain
            self.stagingBytes = stagingBytes
        }
    }

    /// What a run needs of its guest; anything else is the stock engine's.
    ///
    /// - Returns: why this guest is not for this engine, or nil.
    public static func objection(
        _ interface: OpaquePointer?, _ domain: UInt32, flags: UInt32, _ callbacks: save_callbacks
    ) -> String? {
        #if arch(x86_64)
            guard let info = try? Self.info(interface, domain) else { return "the domain cannot be looked at" }
            if info.hvm == 0 { return "it is a PV guest" }
            if info.nr_paged_pages != 0 || info.nr_shared_pages != 0 { return "its memory is paged or shared" }
            if flags & UInt32(XCFLAGS_LIVE) == 0 { return "the save is not live" }
            if flags & UInt32(XCFLAGS_DEBUG) != 0 { return "the save is to be verified" }
            if callbacks.precopy_policy != nil { return "libxl decides when the first copy is good enough" }
            if LogWitness(interface, domain) == nil { return "no page of it tells whether its log is used elsewhere" }
            if callbacks.switch_qemu_logdirty == nil { return "libxl gives no way to log a device model's writes" }
            return nil
        #else
            return "this is not x86"
        #endif
    }

    /// Pages that are copied in one go: their types, and then their contents, stay in the cache.
    private static let batchPages = RecordBuffer.alignedPages

    private let interface: OpaquePointer?
    private let configuration: Configuration
    private let callbacks: save_callbacks
    private let note: (EpochTimes.Copying) -> Void
    private let log: DirtyLog
    private let memory: GuestMemory
    private let machine: MachineState
    private let staging: MappedMemory
    private var buffer: RecordBuffer
    private let entries: UnsafeMutableBufferPointer<UInt64>
    private let contents: UnsafeMutableBufferPointer<UnsafeRawPointer?>
    /// What the first copy has not looked at, and how many pages the guest had when it stopped; see `copyAll`.
    private var walk: FrameWalk
    private var pagesFound: UInt = 0
    private var isDeviceModelLogging = false
    private var progressPrefix: UnsafeMutablePointer<CChar>?

    /// - Parameters:
    ///   - callbacks: libxl's, or those that stand before them.
    ///   - note: hears of every epoch's copying before the guest is resumed.
    public init(
        _ interface: OpaquePointer?, _ configuration: Configuration, _ callbacks: save_callbacks,
        note: @escaping (EpochTimes.Copying) -> Void
    ) throws(SystemError) {
        self.note = note
        self.interface = interface
        self.configuration = configuration
        self.callbacks = callbacks
        let pages = try GuestMemory.frameCount(interface, configuration.domain)
        walk = FrameWalk(frameCount: pages)
        log = try DirtyLog(interface, configuration.domain, pageCount: pages)
        memory = try GuestMemory(interface, configuration.domain, pageCount: pages)
        machine = MachineState(interface, configuration.domain)
        let least = RecordBuffer.pageDataBytes(pages: Self.batchPages) + MachineState.roomBytes
        staging = try MappedMemory(byteCount: max(configuration.stagingBytes, least))
        buffer = RecordBuffer(storage: staging.bytes)
        entries = .allocate(capacity: Self.batchPages)
        entries.initialize(repeating: 0)
        contents = .allocate(capacity: Self.batchPages)
        contents.initialize(repeating: nil)
    }

    deinit {
        if isDeviceModelLogging { _ = callbacks.switch_qemu_logdirty?(configuration.domain, 0, callbacks.data) }
        setProgressPrefix(nil)
        entries.deallocate()
        contents.deallocate()
    }

    /// Until the run ends.
    ///
    /// - Returns: what the callback said that ended it: 0 or less.
    public func run() throws(SystemError) -> Int32 {
        guard callbacks.switch_qemu_logdirty?(configuration.domain, 1, callbacks.data) == 0 else {
            throw SystemError("the device model does not log its writes", code: EIO)
        }
        isDeviceModelLogging = true
        try begin()
        try log.start()
        try copyLive()
        while true {
            let result = try checkpoint()
            if result <= 0 { return result }
        }
    }

    // MARK: The first copy

    private func begin() throws(SystemError) {
        let version = xc_version(interface, XENVER_version, nil)
        guard version >= 0 else { throw SystemError("Xen's version cannot be read") }
        buffer.headers(
            guestType: LibxcFormat.guestTypeHVM, xenMajor: UInt32(version) >> 16, xenMinor: UInt32(version) & 0xFFFF)
        try machine.writeStatic(to: &buffer)
        buffer.record(.staticDataEnd)
        try writeOut()
    }

    /// While the guest runs: everything once, then what was written meanwhile, until another round would not gain much.
    private func copyLive() throws(SystemError) {
        setProgressPrefix("Frames iteration 0")
        memory.beginRound(isGuestSuspended: false)
        var policy = LivePolicy(pages: try copyAll())
        try writeOut()
        while policy.goesOn {
            policy.roundBegins(pages: try log.take(isFinal: false))
            setProgressPrefix("Frames iteration \(policy.round)")
            memory.beginRound(isGuestSuspended: false)
            try copyLeftOut(countedPages: try Self.info(interface, configuration.domain).nr_pages)
            try copy(log.scan, progressOf: policy.pages)
            try writeOut()
        }
        setProgressPrefix(nil)
    }

    /// Every page of the guest: until all frame numbers were looked at, or as many pages were found as the guest has.
    ///
    /// Xen counts as the guest's (tot_pages without extra_pages) what has contents here and a little more: pages that wait
    /// for populate-on-demand, were given back and are still mapped, have failed, or were taken out of its memory for a
    /// device model. What is Xen's own (shared info, grant frames, the APIC page, traces) is not counted and has no contents
    /// here. A page has one frame number, and while it is mapped it stays counted. So when as many were found, and are
    /// mapped, as are counted *now*, these are all. Where the count is never reached, the walk goes to its end.
    ///
    /// What has contents here and is no further page in the count is another domain's, which only a domain may map that
    /// serves one, and the guest's own that it was granted by itself. So many others could be missed, if they are alone, and
    /// in none of the places where a walk begins: it stops only where there is nothing.
    ///
    /// - Returns: how many pages were found.
    private func copyAll() throws(SystemError) -> Int {
        var found: UInt = 0
        var counted = try Self.info(interface, configuration.domain).nr_pages
        while true {
            xc_report_progress_step(interface, min(found, counted), counted)
            let count = walk.next(into: entries)
            if count == 0 { break }
            let copied = try copy(first: count, namesHoles: false)
            found += UInt(copied)
            if copied > 0 { continue }
            walk.foundNothing()
            if found < counted { continue }
            counted = try Self.info(interface, configuration.domain).nr_pages
            if found == counted, memory.holdsTheRound {
                memory.hasAll(counted: Int(counted))
                break
            }
        }
        try memory.findAll()
        xc_report_progress_step(interface, counted, counted)
        pagesFound = found
        return Int(found)
    }

    /// A page that came into being since `copyAll` stopped may be where it has not looked.
    ///
    /// - Parameter pages: the guest's count of them now.
    private func copyLeftOut(countedPages pages: UInt) throws(SystemError) {
        guard pages > pagesFound else { return }
        while true {
            let count = walk.next(into: entries)
            if count == 0 { break }
            _ = try copy(first: count, namesHoles: false)
        }
    }

    /// libxenctrl keeps the pointer.
    private func setProgressPrefix(_ text: String?) {
        let old = progressPrefix
        progressPrefix = text.flatMap { strdup($0) }
        xc_set_progress_prefix(interface, progressPrefix)
        free(old)
    }

    // MARK: Every epoch

    private func checkpoint() throws(SystemError) -> Int32 {
        guard let suspend = callbacks.suspend, suspend(callbacks.data) != 0 else {
            throw SystemError("the guest was not suspended", code: EAGAIN)
        }
        try expectSuspended()
        try followGrowth()
        memory.beginRound(isGuestSuspended: true)
        _ = try log.take(isFinal: true)
        let logRead = MonotonicTime.now
        try copy(log.scan)
        try copyUnlogged()
        note(.init(logRead: logRead, pagesCopied: .now))
        try makeRoom(MachineState.roomBytes)
        try machine.write(to: &buffer)
        buffer.record(.checkpoint)
        try memory.endRound()

        guard let postcopy = callbacks.postcopy, let finish = callbacks.checkpoint else { return -1 }
        let resumed = postcopy(callbacks.data)
        guard resumed > 0 else { return resumed }
        try writeOut()
        try memory.sweep(parts: 64)
        return finish(callbacks.data)
    }

    /// Pages that the log does not know: those that came into being since it was read last. Mostly there are none.
    private func copyUnlogged() throws(SystemError) {
        try memory.findUnlogged()
        try copy(memory.unsentScan)
    }

    /// Memory that was plugged in lies behind what the run began with.
    private func followGrowth() throws(SystemError) {
        let pages = try GuestMemory.frameCount(interface, configuration.domain)
        guard pages > log.pageCount else { return }
        try log.grow(pageCount: pages)
        memory.grow(pageCount: pages)
    }

    private func expectSuspended() throws(SystemError) {
        let info = try Self.info(interface, configuration.domain)
        guard info.shutdown != 0, info.shutdown_reason == UInt32(SHUTDOWN_suspend) else {
            throw SystemError("the guest has not been suspended", code: EAGAIN)
        }
        guard info.nr_paged_pages == 0, info.nr_shared_pages == 0 else {
            throw SystemError(
                "the guest's memory is paged or shared now, which only the stock engine saves", code: ENOTSUP)
        }
    }

    private static func info(_ interface: OpaquePointer?, _ domain: UInt32) throws(SystemError) -> xc_dominfo_t {
        guard let info = xc_dominfo_t(of: domain, interface) else {
            throw SystemError("the domain is gone", code: ESRCH)
        }
        return info
    }

    // MARK: Pages

    /// - Parameter progressOf: so many pages were written; nil where the guest stands still, and nobody is told.
    private func copy(_ pages: DirtyScan, progressOf total: Int? = nil) throws(SystemError) {
        var scan = pages
        var done = 0
        while true {
            let found = scan.next(into: entries)
            if found == 0 { break }
            if let total { xc_report_progress_step(interface, UInt(min(done, total)), UInt(total)) }
            done += found
            _ = try copy(first: found, namesHoles: total == nil)
        }
        if let total { xc_report_progress_step(interface, UInt(total), UInt(total)) }
    }

    /// - Parameters:
    ///   - number: so many of `entries` are frame numbers.
    ///   - namesHoles: not in the first copy, for there the backup has no page either.
    /// - Returns: how many had contents.
    private func copy(first number: Int, namesHoles: Bool) throws(SystemError) -> Int {
        let batch = UnsafeMutableBufferPointer(rebasing: entries[..<number])
        try memory.addTypes(to: batch)
        try makeRoom(RecordBuffer.pageDataBytes(pages: batch.count))
        for entry in batch where LibxcFormat.pageTypeHasContents(entry >> LibxcFormat.pageTypeShift) == true {
            try memory.prepare(Int(entry & LibxcFormat.pfnMask))
        }
        var count = 0
        var withContents = 0
        for entry in batch {
            let type = entry >> LibxcFormat.pageTypeShift
            switch LibxcFormat.pageTypeHasContents(type) {
            case true?:
                contents[count] = memory.page(Int(entry & LibxcFormat.pfnMask))
                if contents[count] == nil {
                    // It is gone since.
                    if !namesHoles { continue }
                    throw SystemError("page \(entry & LibxcFormat.pfnMask) of the guest cannot be mapped", code: EFAULT)
                }
                withContents += 1
            case false?:
                if !namesHoles, type == LibxcFormat.invalidPageType { continue }
                contents[count] = nil
            case nil: throw SystemError("a page of the guest has the unknown type \(type)", code: ENOTSUP)
            }
            batch[count] = entry
            count += 1
        }
        if count == 0 { return 0 }
        buffer.pageData(
            UnsafeBufferPointer(rebasing: batch[..<count]), UnsafeBufferPointer(rebasing: contents[..<count]))
        return withContents
    }

    // MARK: The stream

    private func makeRoom(_ bytes: Int) throws(SystemError) {
        if buffer.freeBytes < bytes { try writeOut() }
    }

    private func writeOut() throws(SystemError) {
        var left = buffer.filled
        while !left.isEmpty {
            switch DescriptorIO.write(configuration.stream, left) {
            case .bytes(let count): left = UnsafeRawBufferPointer(rebasing: left[count...])
            case .failed(let error): throw error
            case .wouldBlock, .endOfFile: throw SystemError("write")
            }
        }
        buffer.reset()
    }
}
