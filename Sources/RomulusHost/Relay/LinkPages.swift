import RomulusCore

/// What encoding the guest's pages takes of the primary's memory.
public struct PageSettings: Equatable, Sendable {
    public var slots: Int
    public var compression: Compression

    public init(slots: Int, compression: Compression) {
        self.slots = slots
        self.compression = compression
    }
}

/// The encoder and its memory.
final class PageEncoding {
    private let cache: MappedMemory
    private let output: MappedMemory
    var encoder: PageEncoder

    /// - Parameter slots: what the backup keeps; no more are used.
    init(_ settings: PageSettings, slots: Int) throws(SystemError) {
        cache = try MappedMemory(byteCount: PageCache.storageBytes(slots: min(slots, settings.slots)))
        output = try MappedMemory(byteCount: PageEncoder.outputBytes)
        encoder = PageEncoder(
            cache: PageCache(storage: cache.bytes), compression: settings.compression, output: output.bytes)
    }
}

/// The decoder and its memory, of which the host gives what is used.
final class PageDecoding {
    private let slots: MappedMemory
    private let output: MappedMemory
    private var decoder: PageDecoder

    init(slots count: Int) throws(SystemError) {
        slots = try MappedMemory(byteCount: count * PageFormat.pageBytes)
        output = try MappedMemory(byteCount: PageFormat.maximumDecodedBytes)
        decoder = PageDecoder(storage: slots.bytes)
    }

    /// - Returns: the stream's next bytes, valid until the next call.
    func decode(_ payload: UnsafeRawBufferPointer) throws(PageError) -> UnsafeRawBufferPointer {
        try decoder.decode(payload, into: output.bytes)
    }
}
