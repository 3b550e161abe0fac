import Testing

@testable import RomulusCore

/// Seeded mutations of valid input: decoders may refuse it, with one of their own errors, and do nothing else.
@Suite struct FuzzTests {
    private static func mutated(_ bytes: [UInt8], _ random: inout Seeded) -> [UInt8] {
        var bytes = bytes
        for _ in 0..<Int.random(in: 1...4, using: &random) where !bytes.isEmpty {
            let place = Int.random(in: 0..<bytes.count, using: &random)
            switch Int.random(in: 0..<6, using: &random) {
            case 0: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            case 1: bytes[place] = [0, 0xFF, 0x7F, 0x80].randomElement(using: &random)!
            case 2: bytes.insert(contentsOf: random.bytes(Int.random(in: 1...9, using: &random)), at: place)
            case 3: bytes.removeSubrange(place..<min(bytes.count, place + Int.random(in: 1...20, using: &random)))
            case 4: bytes.replaceSubrange(place..., with: bytes[..<min(place, 64)])
            default:
                let word = place & ~3
                for offset in word..<min(word + 4, bytes.count) {
                    bytes[offset] = UInt8.random(in: 0...255, using: &random)
                }
            }
        }
        return bytes
    }

    @Test func theStreamDecodersSurviveAnything() {
        let storage = UnsafeMutableRawBufferPointer.allocate(byteCount: 6000 + 64, alignment: 8)
        defer { storage.deallocate() }
        storage.initializeMemory(as: UInt8.self, repeating: 0xA5)
        let valid =
            Sample.head + Announcement().encoded() + FramesBegin.encoded(version: .first)
            + Sample.epoch(pages: 1, isHVM: true) + Sample.epoch(pages: 0)
        var refused = 0
        for seed in UInt64(0)..<4000 {
            var random = Seeded(seed)
            let bytes = Self.mutated(valid, &random)
            var incoming = IncomingStream()
            var buffer = EpochBuffer(storage: UnsafeMutableRawBufferPointer(rebasing: storage[0..<6000]))
            do throws(StreamError) {
                try feed(bytes, to: &incoming, &buffer)
            } catch {
                refused += 1
            }
            #expect(storage[6000...].allSatisfy { $0 == 0xA5 }, "seed \(seed) wrote past the buffer")
        }
        #expect(refused > 1000, "the mutations are too tame to show anything")
    }

    private func feed(
        _ bytes: [UInt8], to incoming: inout IncomingStream, _ buffer: inout EpochBuffer
    ) throws(StreamError) {
        var offset = 0
        while offset < bytes.count {
            let step: Result<Int, StreamError> = bytes.withUnsafeBytes { raw in
                do throws(StreamError) {
                    let rest = UnsafeRawBufferPointer(rebasing: raw[offset...])
                    let (passed, landmark) = try incoming.advance(over: rest)
                    try buffer.append(UnsafeRawBufferPointer(rebasing: rest[..<passed]))
                    if case .epochEnd? = landmark {
                        _ = try EpochCheck.pageCount(of: buffer.bytes)
                        buffer.reset()
                    }
                    return .success(passed)
                } catch {
                    return .failure(error)
                }
            }
            offset += try step.get()
        }
    }

    @Test func theEpochCheckSurvivesAnything() {
        let valid = Sample.epoch(pages: 2, isHVM: true)
        var refused = 0
        for seed in UInt64(0)..<6000 {
            var random = Seeded(seed)
            let bytes = Self.mutated(valid, &random)
            let isSound = bytes.withUnsafeBytes { raw in (try? EpochCheck.pageCount(of: raw)) != nil }
            if !isSound { refused += 1 }
        }
        #expect(refused > 1000)
    }

    @Test func theFrameDecoderNeverAcceptsWhatWasNotSent() {
        var refused = 0
        for seed in UInt64(0)..<6000 {
            var random = Seeded(seed)
            var encoder = FrameEncoder()
            let sent: [Message] = [
                .epochEnd(Epoch(rawValue: seed), streamBytes: seed), .heartbeat(Epoch(rawValue: seed)),
                .farewell(.guestShutDown, text: "text"), .acknowledgement(Epoch(rawValue: seed), frames: seed),
                .answer(version: .first, arbiter: .fence, features: [], detectTimeoutMilliseconds: 1, pageSlots: 8),
                .heard(frames: seed),
            ]
            let valid = sent.flatMap { encoder.frame($0) }
            let bytes = Self.mutated(valid, &random)
            var decoder = FrameDecoder()
            var received: [Message] = []
            var offset = 0
            bytes.withUnsafeBytes { raw in
                do throws(FrameError) {
                    while let next = try decoder.next(in: UnsafeRawBufferPointer(rebasing: raw[offset...])) {
                        offset += next.totalBytes
                        if case .message(let message) = next.frame { received.append(message) }
                    }
                } catch {
                    refused += 1
                }
            }
            #expect(Array(sent.prefix(received.count)) == received, "seed \(seed)")
        }
        #expect(refused > 1000)
    }
}
