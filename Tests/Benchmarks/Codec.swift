import RomulusCore

/// An encoder that sends into nothing, and counts.
final class Codec {
    private var encoder: PageEncoder

    init(slots: Int, compression: Compression) {
        let cache = memory(PageCache.storageBytes(slots: slots))
        encoder = PageEncoder(
            cache: PageCache(storage: cache), compression: compression, output: memory(PageEncoder.outputBytes))
        encoder.begin()
    }

    func encode(_ number: UInt64, _ page: UnsafeRawPointer) {
        if !encoder.hasRoomForPage { finish() }
        encoder.page(number, page.assumingMemoryBound(to: UInt8.self))
    }

    func finish() {
        _ = encoder.finish()
        encoder.begin()
    }

    var counts: PageEncoder.Counts { encoder.counts }
}
