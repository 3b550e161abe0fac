import CCompression

/// How a page that has no short delta is made smaller.
public enum Compression: String, CaseIterable, Sendable {
    case none
    case lz4
    case zstd
}

/// Compresses single pages; one thread's.
final class Compressor {
    let kind: Compression
    private let context: OpaquePointer?

    init(_ kind: Compression) {
        self.kind = kind
        context = kind == .zstd ? ZSTD_createCCtx() : nil
    }

    deinit { ZSTD_freeCCtx(context) }

    private static let zstdLevel: Int32 = 1

    /// - Returns: the compressed page's length in bytes; nil where it would not be shorter than `room`.
    func compress(_ page: UnsafePointer<UInt8>, into room: UnsafeMutableRawBufferPointer) -> Int? {
        switch kind {
        case .none:
            return nil
        case .lz4:
            let length = LZ4_compress_default(
                UnsafeRawPointer(page).assumingMemoryBound(to: CChar.self), room.baseAddress,
                Int32(PageFormat.pageBytes), Int32(room.count))
            return length > 0 ? Int(length) : nil
        case .zstd:
            let length = ZSTD_compressCCtx(
                context, room.baseAddress, room.count, page, PageFormat.pageBytes, Self.zstdLevel)
            return ZSTD_isError(length) == 0 ? length : nil
        }
    }
}

/// Undoes it, whatever the other side has chosen; one thread's.
final class Decompressor {
    private let context = ZSTD_createDCtx()

    deinit { ZSTD_freeDCtx(context) }

    /// - Returns: whether `page` is a whole page now.
    func decompress(_ bytes: UnsafeRawBufferPointer, as kind: Compression, into page: UnsafeMutablePointer<UInt8>)
        -> Bool
    {
        switch kind {
        case .none:
            return false
        case .lz4:
            let length = LZ4_decompress_safe(
                bytes.baseAddress?.assumingMemoryBound(to: CChar.self),
                UnsafeMutableRawPointer(page).assumingMemoryBound(to: CChar.self), Int32(bytes.count),
                Int32(PageFormat.pageBytes))
            return length == PageFormat.pageBytes
        case .zstd:
            return ZSTD_decompressDCtx(context, page, PageFormat.pageBytes, bytes.baseAddress, bytes.count)
                == PageFormat.pageBytes
        }
    }
}

/// Whether compressing pays: after pages that did not become smaller, the next ones are not tried, more of them each time.
struct CompressionTrial {
    private var penalty = 0
    private var skipsLeft = 0

    static let longestPenalty = 64

    mutating func isWorthTrying() -> Bool {
        if skipsLeft > 0 {
            skipsLeft -= 1
            return false
        }
        return true
    }

    mutating func ended(smaller: Bool) {
        penalty = smaller ? 0 : min(max(1, penalty * 2), Self.longestPenalty)
        skipsLeft = penalty
    }
}
