import CXen
import Glibc
import RomulusCore

/// The guest's pages in this process's address space, mapped once and kept.
///
/// A mapping holds its page: one that the guest gives back (a balloon) stays what it was, and stays counted as the guest's,
/// until it is unmapped here. And a page that comes into being is in no log of writes, nor is what is written to it before the
/// log is read next (Xen before 4.19.5, 4.20.3, 4.21.1). So the two counts, Xen's and that of what is mapped, tell what the log
/// does not: while every page that has come into being is mapped, their difference stays as it is. Where it does not, `find`
/// looks for the pages, and what it maps is `unsent`.
final class GuestMemory {
    private let domain: UInt32
    private let interface: OpaquePointer?
    private let handle: OpaquePointer
    private var pageCount: Int
    /// In pages; a mapping each. Linux allows a process some 65,000 of them.
    private let chunkPages: Int
    private var chunks: UnsafeMutableBufferPointer<Chunk>
    private var mappedChunks = 0
    private var mappedPages = 0
    private var sweepNext = 0
    // For one chunk, so that mapping allocates nothing.
    private let frames: UnsafeMutableBufferPointer<UInt>
    private let errors: UnsafeMutableBufferPointer<Int32>

    private struct Chunk {
        var base: UnsafeMutableRawPointer?
        var pageCount = 0
        /// When it was mapped.
        var round = 0
        var batch = 0
    }

    /// Which pages of the mapped chunks are there, a bit for each.
    private var present: UnsafeMutableBufferPointer<UInt64>
    /// Which of them were not copied since they were mapped, and are perhaps in no log.
    private var unsent: UnsafeMutableBufferPointer<UInt64>
    private var round = 1
    private var batch = 1
    /// Whether every page that was read in this round is still mapped, and so is still the guest's.
    private(set) var holdsTheRound = true
    private var isGuestSuspended = false
    /// What the count had beyond the mapped pages when every page of the guest's was mapped: more where some are in no frame
    /// (taken out of its memory for a device model, or failed), less where Xen's own are mapped. Nil until it is known.
    private var otherPages: Int?

    /// A page of libxenctrl's for them: it keeps single ones.
    static let typesAtOnce = 512

    init(_ interface: OpaquePointer?, _ domain: UInt32, pageCount: Int) throws(SystemError) {
        guard let handle = xenforeignmemory_open(nil, 0) else { throw SystemError("xenforeignmemory_open") }
        self.handle = handle
        self.interface = interface
        self.domain = domain
        self.pageCount = pageCount
        // Linux asks Xen for each page that is not there by itself, so a chunk with few pages should be small.
        var chunkPages = 512
        while pageCount / chunkPages > 8192 { chunkPages *= 2 }
        self.chunkPages = chunkPages
        chunks = .allocate(capacity: (pageCount + chunkPages - 1) / chunkPages)
        chunks.initialize(repeating: Chunk())
        present = .allocate(capacity: (pageCount + 63) / 64)
        present.initialize(repeating: 0)
        unsent = .allocate(capacity: (pageCount + 63) / 64)
        unsent.initialize(repeating: 0)
        frames = .allocate(capacity: max(chunkPages, Self.typesAtOnce))
        frames.initialize(repeating: 0)
        errors = .allocate(capacity: chunkPages)
        errors.initialize(repeating: 0)
    }

    deinit {
        for index in chunks.indices { unmap(index) }
        xenforeignmemory_close(handle)
        chunks.deallocate()
        present.deallocate()
        unsent.deallocate()
        frames.deallocate()
        errors.deallocate()
    }

    /// How many frame numbers the guest has, from 0.
    static func frameCount(_ interface: OpaquePointer?, _ domain: UInt32) throws(SystemError) -> Int {
        var pages: UInt = 0
        guard xc_domain_nr_gpfns(interface, domain, &pages) >= 0, pages > 0 else {
            throw SystemError("the size of the guest's memory cannot be read")
        }
        return Int(pages)
    }

    // MARK: What a page is

    /// Begins a batch.
    ///
    /// - Parameter entries: PFNs, at most `typesAtOnce`; each gets its type in bits 63-60, as PAGE_DATA has it.
    func addTypes(to entries: UnsafeMutableBufferPointer<UInt64>) throws(SystemError) {
        batch += 1
        for index in entries.indices {
            frames[index] = UInt(entries[index])
            isRead(Int(entries[index]))
        }
        try readTypes(entries.count)
        for index in entries.indices { entries[index] |= UInt64(frames[index]) << LibxcFormat.pageTypeShift }
    }

    /// - Parameter count: PFNs in `frames`; each becomes its type.
    private func readTypes(_ count: Int) throws(SystemError) {
        guard xc_get_pfn_type_batch(interface, domain, UInt32(count), frames.baseAddress) == 0 else {
            throw SystemError("the guest's page types cannot be read")
        }
        // Xen gives the types in bits 31-28 (public/domctl.h).
        for index in 0..<count { frames[index] = frames[index] >> 28 & 0xF }
    }

    // MARK: A round of reading

    func beginRound(isGuestSuspended: Bool) {
        round += 1
        holdsTheRound = true
        self.isGuestSuspended = isGuestSuspended
    }

    /// After everything has been read, and before the guest runs again.
    func endRound() throws(SystemError) {
        otherPages = try ownedPages() - mappedPages
        isGuestSuspended = false
    }

    /// Maps what is needed to read this page. May move other pages: prepare all of a batch before looking at one.
    func prepare(_ number: Int) throws(SystemError) {
        let index = number / chunkPages
        // Where it was not there, it may be now; where the guest lets go of many, one try in a batch will do.
        let isNew = chunks[index].batch != batch && !isPresent(number)
        if chunks[index].base == nil || isNew { try map(index) }
    }

    /// A page that was prepared; nil where there was none when it was mapped. Valid until something is prepared.
    func page(_ number: Int) -> UnsafeRawPointer? {
        guard isPresent(number), let base = chunks[number / chunkPages].base else { return nil }
        isRead(number)
        return UnsafeRawPointer(base + (number % chunkPages) * LibxcFormat.pageBytes)
    }

    private func isRead(_ number: Int) { unsent[number / 64] &= ~(1 << UInt64(number % 64)) }

    /// The guest's frame numbers go further than they did.
    func grow(pageCount: Int) {
        self.pageCount = pageCount
        chunks = chunks.grown(to: (pageCount + chunkPages - 1) / chunkPages, with: Chunk())
        present = present.grown(to: (pageCount + 63) / 64, with: 0)
        unsent = unsent.grown(to: (pageCount + 63) / 64, with: 0)
    }

    // MARK: What the log does not say

    /// Pages that were mapped since they were read last.
    var unsentScan: DirtyScan { DirtyScan(words: unsent.baseAddress!, pageCount: pageCount) }

    func allIsSent() { for word in unsent.indices { unsent[word] = 0 } }

    /// Maps every page that the guest has, while it runs, so that its first epoch has nothing to look for.
    func findAll() throws(SystemError) {
        // A guest that gives and takes memory all the time is looked at when it stands still.
        for _ in 0..<5 where otherPages == nil {
            let (owned, mapped) = (try ownedPages(), mappedPages)
            try findNew()
            if mappedPages == mapped, try ownedPages() == owned { otherPages = owned - mapped }
        }
    }

    /// - Parameter counted: Xen's count of the guest's pages while each of them was mapped, and none waited to be populated.
    func hasAll(counted: Int) { otherPages = counted - mappedPages }

    /// Has every page that the guest has come by, and that no log names, mapped and among the unsent. The guest stands still.
    func findUnlogged() throws(SystemError) {
        guard try mayLackPages() else { return }
        try findNew()
        guard try mayLackPages() else { return }
        try findReplaced()
        // There are more: another process holds what the guest has given back.
        guard otherPages != nil, try mayLackPages() else { return }
        for word in present.indices { unsent[word] = present[word] }
    }

    private func mayLackPages() throws(SystemError) -> Bool { try ownedPages() - mappedPages != otherPages }

    /// Maps pages that the guest has where it had none.
    private func findNew() throws(SystemError) {
        for index in chunks.indices where try hasPages(index, thatArePresent: false, withContents: true) {
            try map(index)
        }
    }

    /// Maps every page anew, and so those that came in the place of another one.
    private func findReplaced() throws(SystemError) {
        for index in chunks.indices where chunks[index].base != nil { try map(index) }
    }

    /// What Xen counts as the guest's, without what waits for populate-on-demand.
    private func ownedPages() throws(SystemError) -> Int {
        var waiting: UInt64 = 0
        if xc_domain_get_pod_target(interface, domain, nil, &waiting, nil) < 0 { waiting = 0 }
        return try countedPages() - Int(waiting)
    }

    private func countedPages() throws(SystemError) -> Int {
        guard let info = xc_dominfo_t(of: domain, interface) else {
            throw SystemError("the domain is gone", code: ESRCH)
        }
        return Int(info.nr_pages)
    }

    /// Lets go of pages that the guest has given back, in the next part of what is mapped: call it while the guest runs.
    func sweep(parts: Int) throws(SystemError) {
        for _ in 0..<(mappedChunks + parts - 1) / parts {
            repeat { sweepNext = (sweepNext + 1) % chunks.count } while chunks[sweepNext].base == nil
            if try hasPages(sweepNext, thatArePresent: true, withContents: false) { try map(sweepNext) }
        }
    }

    /// Whether any page of a chunk, of those that are mapped or are not, is there for the guest or is not.
    private func hasPages(_ index: Int, thatArePresent: Bool, withContents: Bool) throws(SystemError) -> Bool {
        let end = min((index + 1) * chunkPages, pageCount)
        var next = index * chunkPages
        while next < end {
            var count = 0
            while next < end, count < Self.typesAtOnce {
                if isPresent(next) == thatArePresent {
                    frames[count] = UInt(next)
                    count += 1
                }
                next += 1
            }
            if count == 0 { break }
            try readTypes(count)
            for offset in 0..<count where LibxcFormat.pageTypeHasContents(UInt64(frames[offset])) == withContents {
                return true
            }
        }
        return false
    }

    // MARK: Mapping

    private func isPresent(_ number: Int) -> Bool { present[number / 64] >> UInt64(number % 64) & 1 != 0 }

    private func map(_ index: Int) throws(SystemError) {
        let isFirst = chunks[index].base == nil
        let before = isFirst ? 0 : try countedPages()
        unmap(index)
        // A page that is no longer counted was given back, so another one may be in its place.
        let after = isFirst ? 0 : try countedPages()
        let wereReplaced = !isGuestSuspended || after != before
        let first = index * chunkPages
        let count = min(chunkPages, pageCount - first)
        for offset in 0..<count { frames[offset] = UInt(first + offset) }
        guard
            let base = xenforeignmemory_map(
                handle, domain, PROT_READ, count, frames.baseAddress, errors.baseAddress)
        else { throw SystemError("the guest's memory cannot be mapped") }
        chunks[index] = Chunk(base: base, pageCount: count, round: round, batch: batch)
        mappedChunks += 1
        for word in first / 64..<(first + count + 63) / 64 {
            let were = present[word]
            var are: UInt64 = 0
            for number in word * 64..<min(word * 64 + 64, first + count) where errors[number - first] == 0 {
                are |= 1 << UInt64(number % 64)
            }
            present[word] = are
            unsent[word] = wereReplaced ? are : are & (~were | unsent[word])
            mappedPages += are.nonzeroBitCount - were.nonzeroBitCount
        }
    }

    /// What was there stays noted in `present` until it is mapped again.
    private func unmap(_ index: Int) {
        guard let base = chunks[index].base else { return }
        if chunks[index].round == round { holdsTheRound = false }
        xenforeignmemory_unmap(handle, base, chunks[index].pageCount)
        chunks[index].base = nil
        mappedChunks -= 1
    }
}

extension UnsafeMutableBufferPointer {
    /// In other memory; this one is gone.
    fileprivate func grown(to count: Int, with value: Element) -> Self {
        let other = Self.allocate(capacity: count)
        other.initialize(repeating: value)
        for index in indices { other[index] = self[index] }
        deallocate()
        return other
    }
}
