import CXen
import Glibc
import RomulusCore

/// The guest's pages in this process's address space, mapped once and kept.
///
/// A mapping holds its page: one that the guest gives back (a balloon) stays what it was, and stays counted as the guest's,
/// until it is unmapped here. So a PFN that got another page since it was mapped shows in two ways, and both are used:
/// the new page is in the log of writes, and the guest's count of pages has grown. `mayHaveChanged` then has every page
/// that was written mapped anew before it is read. What only went away is let go by `sweep`.
final class GuestMemory {
    private let domain: UInt32
    private let interface: OpaquePointer?
    private let handle: OpaquePointer
    private let pageCount: Int
    /// In pages; a mapping each. Linux allows a process some 65,000 of them.
    private let chunkPages: Int
    private let chunks: UnsafeMutableBufferPointer<Chunk>
    private var mappedChunks = 0
    private var sweepNext = 0
    // For one chunk, so that mapping allocates nothing.
    private let frames: UnsafeMutableBufferPointer<UInt>
    private let errors: UnsafeMutableBufferPointer<Int32>

    private struct Chunk {
        var base: UnsafeMutableRawPointer?
        /// When it was mapped.
        var round = 0
        var batch = 0
    }

    /// Which pages of the mapped chunks are there, a bit for each.
    private let present: UnsafeMutableBufferPointer<UInt64>
    private var round = 1
    private var batch = 1
    /// Whether every page that was read in this round is still mapped, and so is still the guest's.
    private(set) var holdsTheRound = true
    private var mayHaveChanged = true
    private var countedPages: UInt = 0

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
        frames.deallocate()
        errors.deallocate()
    }

    // MARK: What a page is

    /// Begins a batch.
    ///
    /// - Parameter entries: PFNs, at most `typesAtOnce`; each gets its type in bits 63-60, as PAGE_DATA has it.
    func addTypes(to entries: UnsafeMutableBufferPointer<UInt64>) throws(SystemError) {
        batch += 1
        for index in entries.indices { frames[index] = UInt(entries[index]) }
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

    /// Between two rounds a page may have become another one only if it is in the log of writes.
    ///
    /// - Parameter pages: the guest's count of pages, where the guest stands still; nil while it runs.
    func beginRound(countedPages pages: UInt?) {
        round += 1
        holdsTheRound = true
        if let pages { mayHaveChanged = mayHaveChanged || pages > countedPages } else { mayHaveChanged = true }
    }

    /// After everything that was written has been read, and before the guest runs again.
    func endRound(countedPages pages: UInt) {
        countedPages = pages
        mayHaveChanged = false
    }

    /// Maps what is needed to read this page. May move other pages: prepare all of a batch before looking at one.
    func prepare(_ number: Int) throws(SystemError) {
        let index = number / chunkPages
        let chunk = chunks[index]
        let isOld = chunk.round != round && mayHaveChanged
        // Where it was not there, it may be now; where the guest lets go of many, one try in a batch will do.
        let isNew = chunk.batch != batch && !isPresent(number)
        if chunk.base == nil || isOld || isNew { try map(index) }
    }

    /// A page that was prepared; nil where there was none when it was mapped. Valid until something is prepared.
    func page(_ number: Int) -> UnsafeRawPointer? {
        guard isPresent(number), let base = chunks[number / chunkPages].base else { return nil }
        return UnsafeRawPointer(base + (number % chunkPages) * LibxcFormat.pageBytes)
    }

    /// Lets go of pages that the guest has given back, in the next part of what is mapped: call it while the guest runs.
    func sweep(parts: Int) throws(SystemError) {
        for _ in 0..<(mappedChunks + parts - 1) / parts {
            repeat { sweepNext = (sweepNext + 1) % chunks.count } while chunks[sweepNext].base == nil
            if try hasVanishedPages(sweepNext) { try map(sweepNext) }
        }
    }

    private func hasVanishedPages(_ index: Int) throws(SystemError) -> Bool {
        let end = min((index + 1) * chunkPages, pageCount)
        var next = index * chunkPages
        while next < end {
            var count = 0
            while next < end, count < Self.typesAtOnce {
                if isPresent(next) {
                    frames[count] = UInt(next)
                    count += 1
                }
                next += 1
            }
            if count == 0 { break }
            try readTypes(count)
            for offset in 0..<count where LibxcFormat.pageTypeHasContents(UInt64(frames[offset])) == false {
                return true
            }
        }
        return false
    }

    // MARK: Mapping

    private func isPresent(_ number: Int) -> Bool { present[number / 64] >> UInt64(number % 64) & 1 != 0 }

    private func map(_ index: Int) throws(SystemError) {
        unmap(index)
        // Letting go may lower the guest's count of pages, which then hides that it has grown.
        mayHaveChanged = true
        let first = index * chunkPages
        let count = min(chunkPages, pageCount - first)
        for offset in 0..<count { frames[offset] = UInt(first + offset) }
        guard
            let base = xenforeignmemory_map(
                handle, domain, PROT_READ, count, frames.baseAddress, errors.baseAddress)
        else { throw SystemError("the guest's memory cannot be mapped") }
        chunks[index] = Chunk(base: base, round: round, batch: batch)
        mappedChunks += 1
        for offset in 0..<count where errors[offset] == 0 {
            present[(first + offset) / 64] |= 1 << UInt64((first + offset) % 64)
        }
    }

    private func unmap(_ index: Int) {
        guard let base = chunks[index].base else { return }
        if chunks[index].round == round { holdsTheRound = false }
        let first = index * chunkPages
        let count = min(chunkPages, pageCount - first)
        xenforeignmemory_unmap(handle, base, count)
        chunks[index].base = nil
        mappedChunks -= 1
        for word in first / 64..<(first + count + 63) / 64 { present[word] = 0 }
    }
}
