import RomulusCore

/// The guest's memory as it goes over the link: encoded by one side, decoded by the other.
///
/// More pages than the cache has slots, so that pages are given up and come back.
final class SimulatedPages {
    private static let pageCount: UInt64 = 12
    private static let slots = PageCache.fewestSlots
    /// Where a page tells the guest's state; its first word is its own number.
    private static let stateWords = [3, 130, 300, 511]
    static let wordsPerPage = stateWords.count

    private let cache = UnsafeMutableRawBufferPointer.allocate(
        byteCount: PageCache.storageBytes(slots: slots), alignment: 64)
    private let output = UnsafeMutableRawBufferPointer.allocate(byteCount: PageEncoder.outputBytes, alignment: 64)
    private let kept = UnsafeMutableRawBufferPointer.allocate(
        byteCount: slots * PageFormat.pageBytes, alignment: 64)
    private let decoded = UnsafeMutableRawBufferPointer.allocate(byteCount: PageFormat.pageBytes, alignment: 64)
    private var encoder: PageEncoder
    private var decoder: PageDecoder

    init() {
        cache.initializeMemory(as: UInt8.self, repeating: 0)
        kept.initializeMemory(as: UInt8.self, repeating: 0)
        encoder = PageEncoder(cache: PageCache(storage: cache), compression: .lz4, output: output)
        decoder = PageDecoder(storage: kept)
    }

    deinit { for memory in [cache, output, kept, decoded] { memory.deallocate() } }

    /// In no order, so that some pages come back while they still have a slot.
    static func number(ofFrame frame: UInt64) -> UInt64 {
        var random = Seeded(frame)
        return random.next() % pageCount
    }

    /// What page `number` holds when the guest's state is `state`: now and then all of it is new.
    private static func page(_ number: UInt64, state: UInt64) -> [UInt64] {
        var random = Seeded(state % 7 == 0 ? state &* 31 &+ number : number)
        let isText = state % 3 == 0
        var words = (0..<PageFormat.pageBytes / 8).map { _ in
            isText ? random.next() & 0x0303_0303_0303_0303 : random.next()
        }
        if state % 11 == 0 { words = words.map { _ in 0 } }
        words[0] = number
        for index in stateWords { words[index] = state }
        return words
    }

    /// The payload of one frame.
    func encode(_ number: UInt64, state: UInt64) -> [UInt8] {
        encoder.begin()
        Self.page(number, state: state).withUnsafeBytes {
            encoder.page(number, $0.baseAddress!.assumingMemoryBound(to: UInt8.self))
        }
        return Array(encoder.finish())
    }

    /// - Returns: what the page tells of the guest's state; words that no guest has where it is not what it should be.
    func decode(_ payload: UnsafeRawBufferPointer, checks: Bool) throws(PageError) -> [UInt64] {
        do throws(PageError) {
            _ = try decoder.decode(payload, into: decoded)
        } catch {
            if checks || error != .checksum { throw error }
        }
        let words = decoded.bindMemory(to: UInt64.self)
        let state = words[Self.stateWords[0]]
        guard words[0] < Self.pageCount, words.elementsEqual(Self.page(words[0], state: state)) else {
            return [UInt64](repeating: .max, count: Self.wordsPerPage)
        }
        return Self.stateWords.map { words[$0] }
    }
}
