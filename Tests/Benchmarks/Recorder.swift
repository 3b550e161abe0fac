import Foundation
import RomulusCore

/// Makes a trace of what a run put on its link: `xl remus -s` with a command that keeps a copy (Tests/Lab).
enum Recorder {
    /// Beyond the first copy.
    private static let longestEpochs = 12

    static func record(link: String, trace: String) throws {
        let epochs = try epochs(onLink: try streamPart(of: [UInt8](try Data(contentsOf: URL(fileURLWithPath: link)))))
            .prefix(longestEpochs + 1)
        guard epochs.count > 1 else { throw TraceError.notATrace(link) }
        let written = Set(epochs.dropFirst().joined().map(\.number))
        let slots = (written.count + 7) / 8 * 8
        let output = memory(PageEncoder.outputBytes)
        // Twice the slots, so that hardly a page is without one.
        var encoder = PageEncoder(
            cache: PageCache(storage: memory(PageCache.storageBytes(slots: slots * 2))), compression: .zstd,
            output: output)
        var bytes = Trace.magic
        append(UInt32(slots * 2), to: &bytes)
        for (index, epoch) in epochs.enumerated() {
            let pages = index == 0 ? epoch.filter { written.contains($0.number) } : epoch
            put(pages, &encoder, &bytes, isFirst: index == 0)
            append(UInt32(0), to: &bytes)
        }
        try Data(bytes).write(to: URL(fileURLWithPath: trace))
        print("\(trace): \(epochs.count - 1) epochs, \(epochs.dropFirst().joined().count) pages, \(bytes.count) bytes")
    }

    /// Without the domain's configuration, which xl sends first.
    private static func streamPart(of bytes: [UInt8]) throws -> [UInt8] {
        let mark = Array("LibxlFmt".utf8)
        for start in 0..<min(bytes.count - mark.count, 1 << 20)
        where bytes[start..<start + mark.count].elementsEqual(mark) {
            return Array(bytes[start...])
        }
        throw TraceError.unreadable("no libxl stream")
    }

    /// The pages of each epoch; the first is the first copy.
    private static func epochs(onLink bytes: [UInt8]) throws -> [[(number: UInt64, page: UnsafeRawPointer)]] {
        var incoming = IncomingStream()
        var decoder = FrameDecoder()
        var pages = PageDecoder(storage: memory(1 << 30))
        let output = memory(PageFormat.maximumDecodedBytes)
        var walk = PageWalk()
        var found: [[(number: UInt64, page: UnsafeRawPointer)]] = []
        var isFramed = false
        var offset = 0
        func pass(_ piece: UnsafeRawBufferPointer) throws {
            if !(try walk.pass(piece)).isEmpty { found.append(walk.takePages()) }
        }
        try bytes.withUnsafeBytes { raw in
            while offset < raw.count {
                let rest = UnsafeRawBufferPointer(rebasing: raw[offset...])
                if !isFramed {
                    let (passed, landmark) = try incoming.advance(over: rest)
                    try pass(UnsafeRawBufferPointer(rebasing: rest[..<passed]))
                    if case .framesBegin? = landmark { isFramed = true }
                    offset += passed
                    continue
                }
                // A run that was ended stops within a frame.
                guard let next = try decoder.next(in: rest) else { break }
                switch next.frame {
                case .data(let payload): try pass(payload)
                case .encodedData(let payload): try pass(try pages.decode(payload, into: output))
                case .message: break
                }
                offset += next.totalBytes
            }
        }
        return found
    }

    /// As records of a stock stream.
    private static func put(
        _ pages: [(number: UInt64, page: UnsafeRawPointer)], _ encoder: inout PageEncoder, _ bytes: inout [UInt8],
        isFirst: Bool
    ) {
        func send() {
            let payload = encoder.finish()
            append(UInt32(payload.count), to: &bytes)
            bytes.append(contentsOf: payload)
            encoder.begin()
        }
        func literal(_ piece: [UInt8]) { piece.withUnsafeBytes { encoder.literal($0) } }
        encoder.begin()
        if isFirst { literal(head) }
        for start in stride(from: 0, to: pages.count, by: 32) {
            let batch = pages[start..<min(start + 32, pages.count)]
            var header: [UInt8] = []
            append(LibxcFormat.RecordType.pageData.rawValue, to: &header)
            append(UInt32(8 + batch.count * (8 + 4096)), to: &header)
            append(UInt32(batch.count), to: &header)
            append(UInt32(0), to: &header)
            for (number, _) in batch { append(number, to: &header) }
            literal(header)
            for (number, page) in batch {
                encoder.page(number, page.assumingMemoryBound(to: UInt8.self))
            }
            send()
        }
        literal(end)
        send()
    }

    private static let head: [UInt8] = {
        var bytes: [UInt8] = Array("LibxlFmt".utf8) + [0, 0, 0, 2, 0, 0, 0, 0]
        append(UInt64(1), to: &bytes)
        var headers = RecordBuffer(storage: memory(LibxcFormat.imageHeaderBytes + LibxcFormat.domainHeaderBytes))
        headers.headers(guestType: LibxcFormat.guestTypeHVM, xenMajor: 4, xenMinor: 17)
        bytes += headers.filled
        return bytes
    }()

    /// CHECKPOINT and CHECKPOINT_END, both without a body.
    private static let end: [UInt8] = [0x0E, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]

    private static func append<Value: FixedWidthInteger>(_ value: Value, to bytes: inout [UInt8]) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }
}
