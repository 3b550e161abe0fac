/// The pages that the primary has sent last, as the backup has them in slots of the same numbers.
///
/// Sets of eight slots, of which each page has one by its number; the least recently sent page of a set makes room
/// (docs/encoding.md has what other rules come to). In memory of the caller's, which nothing here outgrows.
public struct PageCache {
    static let ways = 8
    private static let nobody = UInt64.max

    private let owners: UnsafeMutablePointer<UInt64>
    private let lastUses: UnsafeMutablePointer<UInt32>
    private let pages: UnsafeMutablePointer<UInt8>
    private let setCount: Int
    private var time: UInt32 = 0

    /// A page, and what is known of it.
    static let slotBytes = PageFormat.pageBytes + MemoryLayout<UInt64>.stride + MemoryLayout<UInt32>.stride

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
        lastUses = (behind + slots * MemoryLayout<UInt64>.stride).bindMemory(to: UInt32.self, capacity: slots)
    }

    public var slotCount: Int { setCount * Self.ways }

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
        var slot = first
        for candidate in first..<first + Self.ways {
            if owners[candidate] == Self.nobody {
                slot = candidate
                break
            }
            // Compared by distance, since the time wraps around.
            if time &- lastUses[candidate] > time &- lastUses[slot] { slot = candidate }
        }
        owners[slot] = number
        return slot
    }

    mutating func touch(_ slot: Int) {
        time &+= 1
        lastUses[slot] = time
    }

    mutating func forget(_ number: UInt64) {
        if let slot = find(number) { owners[slot] = Self.nobody }
    }
}
