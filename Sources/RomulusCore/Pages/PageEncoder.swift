import CPages

/// Makes payloads of ENCODED_DATA: for each page the shortest of what can be said of it, given what the backup has.
///
/// What goes over the link in order is decoded in order, so the cache here is always the backup's as it will be when it
/// has read as far. A run whose link fails ends, and its caches with it.
public struct PageEncoder {
    /// How many pages there were of each kind, and their bytes.
    public struct Counts: Equatable, Sendable {
        public var zero = 0
        public var same = 0
        public var delta = 0
        public var compressed = 0
        public var raw = 0
        /// Of the payloads.
        public var encodedBytes: UInt64 = 0

        public init() {}
    }

    private var cache: PageCache
    private let output: UnsafeMutableRawBufferPointer
    private let compressor: Compressor
    private var trial = CompressionTrial()
    private var filledBytes = PageFormat.headerBytes
    private var decodedBytes = 0
    private var checksum = CRC32C()
    /// Where the length of the literal at the end of the output stands.
    private var literalAt: Int?
    public private(set) var counts = Counts()

    /// A delta this long or shorter is taken without looking further.
    static let goodDeltaBytes = 2048

    /// - Parameter output: of `outputBytes`; the caller's for the encoder's life.
    public init(cache: PageCache, compression: Compression, output: UnsafeMutableRawBufferPointer) {
        precondition(output.count >= Self.outputBytes)
        self.cache = cache
        self.output = output
        compressor = Compressor(compression)
    }

    /// A payload, what the vectors may write beyond what they keep, and a compressed page.
    public static let outputBytes = compressionOffset + PageFormat.pageBytes
    private static let compressionOffset = FrameFormat.maximumPayloadBytes + Int(ROMULUS_DELTA_ROOM)

    private static let literalHeaderBytes = 1 + 4

    // MARK: A payload

    public mutating func begin() {
        filledBytes = PageFormat.headerBytes
        decodedBytes = 0
        checksum = CRC32C()
        literalAt = nil
    }

    /// How many bytes of a literal still fit.
    public var literalRoomBytes: Int {
        let room = FrameFormat.maximumPayloadBytes - filledBytes - (literalAt == nil ? Self.literalHeaderBytes : 0)
        return max(0, min(room, PageFormat.maximumDecodedBytes - decodedBytes))
    }

    public var hasRoomForPage: Bool {
        filledBytes + PageFormat.pageBytes + PageFormat.overheadBytes <= FrameFormat.maximumPayloadBytes
            && decodedBytes + PageFormat.pageBytes <= PageFormat.maximumDecodedBytes
    }

    /// The payload, valid until the next `begin`.
    public mutating func finish() -> UnsafeRawBufferPointer {
        output.storeBytes(of: UInt32(decodedBytes).littleEndian, as: UInt32.self)
        output.storeBytes(of: checksum.value.littleEndian, toByteOffset: 4, as: UInt32.self)
        counts.encodedBytes += UInt64(filledBytes)
        return UnsafeRawBufferPointer(output).part(from: 0, count: filledBytes)
    }

    // MARK: Pieces

    /// Bytes that are no page; at most `literalRoomBytes`.
    public mutating func literal(_ bytes: UnsafeRawBufferPointer) {
        let at: Int
        if let literalAt {
            at = literalAt
        } else {
            at = filledBytes + 1
            append(.literal)
            append(UInt32(0))
            literalAt = at
        }
        append(bytes)
        let length = output.loadUnaligned(fromByteOffset: at, as: UInt32.self).littleEndian + UInt32(bytes.count)
        output.storeBytes(of: length.littleEndian, toByteOffset: at, as: UInt32.self)
        noteDecoded(bytes)
    }

    /// The guest's page `number`, where `hasRoomForPage`.
    public mutating func page(_ number: UInt64, _ page: UnsafePointer<UInt8>) {
        literalAt = nil
        if romulus_page_is_zero(page) {
            checksum.updateZeroPage()
            decodedBytes += PageFormat.pageBytes
            cache.forget(number)
            append(.zero)
            counts.zero += 1
            return
        }
        noteDecoded(UnsafeRawBufferPointer(start: page, count: PageFormat.pageBytes))
        if let slot = cache.find(number) {
            changed(page, in: slot)
        } else {
            new(page, in: cache.admit(number))
        }
    }

    /// One that stands in two parts.
    mutating func page(_ number: UInt64, _ head: UnsafeRawBufferPointer, _ tail: UnsafeRawBufferPointer) {
        withUnsafeTemporaryAllocation(byteCount: PageFormat.pageBytes, alignment: 64) { whole in
            whole.copyMemory(from: head)
            UnsafeMutableRawBufferPointer(rebasing: whole[head.count...]).copyMemory(from: tail)
            page(number, whole.baseAddress!.assumingMemoryBound(to: UInt8.self))
        }
    }

    private mutating func changed(_ page: UnsafePointer<UInt8>, in slot: Int) {
        let kept = cache.page(slot)
        let length = romulus_delta(deltaRoom, kept, page)
        if length == Self.emptyDeltaBytes {
            append(.same, slot)
            counts.same += 1
            return
        }
        kept.update(from: page, count: PageFormat.pageBytes)
        finish(page, slot, .delta, deltaBytes: length)
    }

    private mutating func new(_ page: UnsafePointer<UInt8>, in slot: Int) {
        let kept = cache.page(slot)
        kept.update(repeating: 0, count: PageFormat.pageBytes)
        let length = romulus_delta(deltaRoom, kept, page)
        kept.update(from: page, count: PageFormat.pageBytes)
        finish(page, slot, .sparse, deltaBytes: length)
    }

    /// Takes the delta, which stands where its piece would have it, or what is shorter.
    private mutating func finish(
        _ page: UnsafePointer<UInt8>, _ slot: Int, _ kind: PageFormat.Piece, deltaBytes: Int
    ) {
        if deltaBytes > Self.goodDeltaBytes,
            let compressed = compressed(page, shorterThan: min(deltaBytes, PageFormat.pageBytes))
        {
            append(compressor.kind == .zstd ? .zstd : .lz4, slot, lengthBytes: compressed.count)
            append(compressed)
            counts.compressed += 1
        } else if deltaBytes + PageFormat.lengthBytes < PageFormat.pageBytes {
            append(kind, slot, lengthBytes: deltaBytes)
            filledBytes += deltaBytes
            counts.delta += 1
        } else {
            append(.raw, slot)
            append(UnsafeRawBufferPointer(start: page, count: PageFormat.pageBytes))
            counts.raw += 1
        }
    }

    /// Valid until the next page.
    private mutating func compressed(
        _ page: UnsafePointer<UInt8>, shorterThan limit: Int
    ) -> UnsafeRawBufferPointer? {
        guard compressor.kind != .none, trial.isWorthTrying() else { return nil }
        let room = UnsafeMutableRawBufferPointer(
            rebasing: output[Self.compressionOffset..<Self.compressionOffset + limit - 1])
        let length = compressor.compress(page, into: room)
        trial.ended(smaller: length != nil)
        return length.map { UnsafeRawBufferPointer(rebasing: room[..<$0]) }
    }

    private static let emptyDeltaBytes = 8

    /// Where the next piece's delta goes, behind what says what it is.
    private var deltaRoom: UnsafeMutablePointer<UInt8> {
        let offset = filledBytes + 1 + PageFormat.slotBytes + PageFormat.lengthBytes
        return (output.baseAddress! + offset).assumingMemoryBound(to: UInt8.self)
    }

    // MARK: Bytes

    private mutating func append(_ kind: PageFormat.Piece) { append(kind.rawValue) }

    private mutating func append(_ kind: PageFormat.Piece, _ slot: Int) {
        append(kind)
        append(UInt32(slot))
    }

    private mutating func append(_ kind: PageFormat.Piece, _ slot: Int, lengthBytes: Int) {
        append(kind, slot)
        append(UInt16(lengthBytes))
    }

    private mutating func append<Value: FixedWidthInteger>(_ value: Value) {
        output.storeBytes(of: value.littleEndian, toByteOffset: filledBytes, as: Value.self)
        filledBytes += MemoryLayout<Value>.size
    }

    private mutating func append(_ bytes: UnsafeRawBufferPointer) {
        UnsafeMutableRawBufferPointer(rebasing: output[filledBytes..<filledBytes + bytes.count]).copyMemory(from: bytes)
        filledBytes += bytes.count
    }

    private mutating func noteDecoded(_ bytes: UnsafeRawBufferPointer) {
        checksum.update(bytes)
        decodedBytes += bytes.count
    }
}
