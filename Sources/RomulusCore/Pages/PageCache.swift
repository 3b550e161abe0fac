/// The pages that the primary has sent last, as the backup has them in slots of the same numbers.
///
/// Sets of eight slots, of which each page has one by its number; any page of a set makes room: guests write in rounds, where
/// the page that was sent longest ago is the next to come (docs/encoding.md has what other rules come to). In memory of the
/// caller's, which nothing here outgrows.
public struct PageCache {
    static let ways = 8
    private static let nobody = UInt64.max

    private let owners: UnsafeMutablePointer<UInt64>
    private let pages: UnsafeMutablePointer<UInt8>
    private let setCount: Int
    /// A linear congruential generator's (Knuth's MMIX): its upper bits say who makes room.
    private var chance: UInt64 = 0

    /// A page, and whose it is.
    static let slotBytes = PageFormat.pageBytes + MemoryLayout<UInt64>.stride

    /// The smallest cache that there is.
    public static let fewestSlots = ways

    /// How much memory a cache needs.
    public static func storageBytes(slots: Int) -> Int { slots / ways * ways * slotBytes }

    /// - Parameter storage: at least one set of slots, zeroed, aligned to eight bytes; the caller's for the cache's life.
    public init(storage: UnsafeMutableRawBufferPointer) {
        setCount = storage.count / (Self.slotBytes * Self.ways)
        precondition(setCount > 0)
        let slots = setCount * Self.ways
        pages = storage.baseAddress!.bindMemory(to: UInt8.self, capacity: slots * PageFormat.pageBytes)
        let behind = storage.baseAddress! + slots * PageFormat.pageBytes
        owners = behind.bindMemory(to: UInt64.self, capacity: slots)
        owners.update(repeating: Self.nobody, count: slots)
    }

    func page(_ slot: Int) -> UnsafeMutablePointer<UInt8> { pages + slot * PageFormat.pageBytes }

    private func firstSlot(of number: UInt64) -> Int { Int(number % UInt64(setCount)) * Self.ways }

    func find(_ number: UInt64) -> Int? {
        let first = firstSlot(of: number)
        for slot in first..<first + Self.ways where owners[slot] == number { return slot }
        return nil
    }

    /// A slot for a page that has none. Somebody else's is given away if need be; fill it.
    mutating func admit(_ number: UInt64) -> Int {
        let first = firstSlot(of: number)
        let free = (first..<first + Self.ways).first { owners[$0] == Self.nobody }
        let slot = free ?? first + anyWay()
        owners[slot] = number
        return slot
    }

    private mutating func anyWay() -> Int {
        chance = chance &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Int(chance >> 61)
    }

    func forget(_ number: UInt64) {
        if let slot = find(number) { owners[slot] = Self.nobody }
    }
}
