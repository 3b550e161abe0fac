import CPages

/// Turns payloads of ENCODED_DATA back into the bytes of the stock stream, and keeps the pages that later ones refer to.
public struct PageDecoder {
    private let slots: UnsafeMutableBufferPointer<UInt8>
    private let decompressor = Decompressor()

    /// - Parameter storage: zeroed; the caller's for the decoder's life. Each slot is a page of it.
    public init(storage: UnsafeMutableRawBufferPointer) {
        slots = storage.bindMemory(to: UInt8.self)
    }

    private var slotCount: Int { slots.count / PageFormat.pageBytes }

    /// - Parameter output: room for `PageFormat.maximumDecodedBytes`.
    /// - Returns: the stream's next bytes, in `output`.
    public mutating func decode(
        _ payload: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer
    ) throws(PageError) -> UnsafeRawBufferPointer {
        guard payload.count >= PageFormat.headerBytes else { throw .malformed }
        let expectedBytes = Int(payload.littleEndian(at: 0, as: UInt32.self))
        let expectedChecksum: UInt32 = payload.littleEndian(at: 4)
        guard expectedBytes <= PageFormat.maximumDecodedBytes, expectedBytes <= output.count else {
            throw .malformed
        }
        var pieces = Pieces(payload.part(from: PageFormat.headerBytes))
        var filledBytes = 0
        var checksum = CRC32C()
        while !pieces.isAtEnd {
            let room = UnsafeMutableRawBufferPointer(rebasing: output[filledBytes..<expectedBytes])
            filledBytes += try decodePiece(&pieces, into: room, &checksum)
        }
        guard filledBytes == expectedBytes else { throw .malformed }
        guard checksum.value == expectedChecksum else { throw .checksum }
        return UnsafeRawBufferPointer(output).part(from: 0, count: filledBytes)
    }

    private func decodePiece(
        _ pieces: inout Pieces, into room: UnsafeMutableRawBufferPointer, _ checksum: inout CRC32C
    ) throws(PageError) -> Int {
        let kind = try pieces.kind()
        if kind == .literal {
            let bytes = try pieces.bytes(Int(try pieces.word()))
            guard bytes.count <= room.count else { throw .malformed }
            room.copyMemory(from: bytes)
            checksum.update(bytes)
            return bytes.count
        }
        guard room.count >= PageFormat.pageBytes else { throw .malformed }
        if kind == .zero {
            UnsafeMutableRawBufferPointer(rebasing: room[..<PageFormat.pageBytes]).initializeMemory(
                as: UInt8.self, repeating: 0)
            checksum.updateZeroPage()
            return PageFormat.pageBytes
        }
        let page = try slot(try pieces.word())
        try update(page, kind, &pieces)
        let contents = UnsafeRawBufferPointer(start: page, count: PageFormat.pageBytes)
        room.copyMemory(from: contents)
        checksum.update(contents)
        return PageFormat.pageBytes
    }

    private func update(
        _ page: UnsafeMutablePointer<UInt8>, _ kind: PageFormat.Piece, _ pieces: inout Pieces
    ) throws(PageError) {
        switch kind {
        case .literal, .zero, .same:
            break
        case .delta, .sparse:
            if kind == .sparse { page.update(repeating: 0, count: PageFormat.pageBytes) }
            let delta = try pieces.countedBytes()
            guard romulus_apply_delta(page, delta.baseAddress?.assumingMemoryBound(to: UInt8.self), delta.count) else {
                throw .damagedDelta
            }
        case .lz4, .zstd:
            let bytes = try pieces.countedBytes()
            guard decompressor.decompress(bytes, as: kind == .lz4 ? .lz4 : .zstd, into: page) else {
                throw .damagedPage
            }
        case .raw:
            let bytes = try pieces.bytes(PageFormat.pageBytes)
            UnsafeMutableRawPointer(page).copyMemory(from: bytes.baseAddress!, byteCount: bytes.count)
        }
    }

    private func slot(_ number: UInt32) throws(PageError) -> UnsafeMutablePointer<UInt8> {
        guard Int(number) < slotCount else { throw .noSuchSlot(number) }
        return slots.baseAddress! + Int(number) * PageFormat.pageBytes
    }
}

/// The pieces of one payload.
private struct Pieces {
    private var rest: UnsafeRawBufferPointer

    init(_ bytes: UnsafeRawBufferPointer) { rest = bytes }

    var isAtEnd: Bool { rest.isEmpty }

    mutating func kind() throws(PageError) -> PageFormat.Piece {
        let raw: UInt8 = try integer()
        guard let kind = PageFormat.Piece(rawValue: raw) else { throw .unknownPiece(raw) }
        return kind
    }

    mutating func word() throws(PageError) -> UInt32 { try integer() }

    mutating func countedBytes() throws(PageError) -> UnsafeRawBufferPointer {
        let length: UInt16 = try integer()
        return try bytes(Int(length))
    }

    mutating func bytes(_ count: Int) throws(PageError) -> UnsafeRawBufferPointer {
        guard count <= rest.count else { throw .malformed }
        defer { rest = rest.part(from: count) }
        return rest.part(from: 0, count: count)
    }

    private mutating func integer<Value: FixedWidthInteger>() throws(PageError) -> Value {
        try bytes(MemoryLayout<Value>.size).littleEndian(at: 0)
    }
}
