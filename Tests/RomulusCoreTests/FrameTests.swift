import Testing

@testable import RomulusCore

@Suite struct FrameTests {
    private static let messages: [Message] = [
        .epochEnd(Epoch(rawValue: 7), streamBytes: 1 << 40),
        .heartbeat(Epoch(rawValue: 3)),
        .farewell(.guestShutDown, text: "the guest has shut down"),
        .farewell(.replicaActivated, text: ""),
        .answer(
            version: .first, arbiter: .lease, features: Features(rawValue: 5), detectTimeoutMilliseconds: 1000,
            pageSlots: 77),
        .acknowledgement(Epoch(rawValue: .max), frames: 1 << 33),
        .heard(frames: 77),
    ]

    private func decode(_ bytes: [UInt8], with decoder: inout FrameDecoder) throws(FrameError) -> (Message?, Int)? {
        let result: Result<(Message?, Int)?, FrameError> = bytes.withUnsafeBytes { raw in
            do throws(FrameError) {
                guard let next = try decoder.next(in: raw) else { return .success(nil) }
                if case .message(let message) = next.frame { return .success((message, next.totalBytes)) }
                return .success((nil, next.totalBytes))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    @Test func aHeartbeatIsTheseBytes() {
        var encoder = FrameEncoder()
        let frame = encoder.frame(.heartbeat(Epoch(rawValue: 0x0102)))
        #expect(Array(frame[0..<12]) == [3, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0])
        #expect(Array(frame[20...]) == [2, 1, 0, 0, 0, 0, 0, 0])
        func sum(_ bytes: [UInt8]) -> [UInt8] {
            var sum: [UInt8] = []
            sum.append(littleEndian: bytes.withUnsafeBytes { ~CRC32C.software(~0, $0) })
            return sum
        }
        #expect(Array(frame[12..<16]) == sum(Array(frame[0..<12])))
        #expect(Array(frame[16..<20]) == sum(Array(frame[0..<12]) + Array(frame[20...])))
    }

    @Test func everyMessageComesBack() throws {
        var encoder = FrameEncoder()
        var decoder = FrameDecoder()
        for message in Self.messages {
            let frame = encoder.frame(message)
            let decoded = try #require(try decode(frame + [1, 2, 3], with: &decoder))
            #expect(decoded.0 == message)
            #expect(decoded.1 == frame.count)
        }
    }

    @Test func aDataFrameCarriesTwoPiecesAsOne() throws {
        var encoder = FrameEncoder()
        var random = Seeded(3)
        let bytes = random.bytes(5000)
        let header = bytes.withUnsafeBytes {
            encoder.dataHeader(
                UnsafeRawBufferPointer(rebasing: $0[..<1234]), UnsafeRawBufferPointer(rebasing: $0[1234...]))
        }
        try (header + bytes).withUnsafeBytes { raw in
            var decoder = FrameDecoder()
            guard case .data(let payload)? = try decoder.next(in: raw)?.frame else {
                Issue.record("not a DATA frame")
                return
            }
            #expect(Array(payload) == bytes)
        }
    }

    @Test func noFlippedBitIsEverAccepted() {
        for message in Self.messages {
            var encoder = FrameEncoder()
            let frame = encoder.frame(message)
            for bit in 0..<frame.count * 8 {
                var damaged = frame
                damaged[bit / 8] ^= 1 << UInt8(bit % 8)
                var decoder = FrameDecoder()
                #expect(throws: FrameError.checksum, "bit \(bit) of \(message)") {
                    try decode(damaged, with: &decoder)
                }
            }
        }
    }

    @Test func anIncompleteFrameIsWaitedFor() throws {
        var encoder = FrameEncoder()
        let frame = encoder.frame(.farewell(.protectionEnded, text: "bye"))
        for length in 0..<frame.count {
            var decoder = FrameDecoder()
            #expect(try decode(Array(frame.prefix(length)), with: &decoder) == nil)
        }
    }

    @Test func aLostFrameIsNoticed() throws {
        var encoder = FrameEncoder()
        _ = encoder.frame(.heartbeat(.none))
        let second = encoder.frame(.heartbeat(.none))
        var decoder = FrameDecoder()
        #expect(throws: FrameError.outOfSequence(expected: 0, found: 1)) { try decode(second, with: &decoder) }
    }

    private func header(type: UInt32, length: Int) -> [UInt8] {
        var header: [UInt8] = []
        header.append(littleEndian: type)
        header.append(littleEndian: UInt32(length))
        header.append(littleEndian: UInt32(0))
        header.append(littleEndian: header.withUnsafeBytes(CRC32C.checksum))
        header.append(littleEndian: UInt32(0))
        return header
    }

    @Test func aLengthAboveTheBoundIsRefusedAtOnce() {
        var decoder = FrameDecoder()
        #expect(throws: FrameError.tooLong(lengthBytes: FrameFormat.maximumPayloadBytes + 1)) {
            try decode(header(type: 1, length: FrameFormat.maximumPayloadBytes + 1), with: &decoder)
        }
        #expect(throws: FrameError.unknownType(0)) { try decode(header(type: 0, length: 8), with: &decoder) }
    }

    @Test func aDamagedLengthIsRefusedAtOnceAndNotWaitedFor() {
        var encoder = FrameEncoder()
        let frame = encoder.frame(.epochEnd(Epoch(rawValue: 1), streamBytes: 9))
        for bit in 0..<32 {
            var damaged = frame
            damaged[4 + bit / 8] ^= 1 << UInt8(bit % 8)
            var decoder = FrameDecoder()
            #expect(throws: FrameError.checksum) { try decode(damaged, with: &decoder) }
        }
    }

    @Test func theAnnouncementIsAnOptionalRecordWithAChecksum() throws {
        let record = Announcement(features: Features(rawValue: 9), run: 0x0807_0605_0403_0201).encoded()
        #expect(Array(record[0..<8]) == [0x01, 0x4D, 0x52, 0x80, 24, 0, 0, 0])
        #expect(Array(record[8..<12]) == Array("RMLS".utf8))
        #expect(record.count == 32)
        #expect(
            try Announcement(recordBody: Array(record[8...]))
                == Announcement(features: Features(rawValue: 9), run: 0x0807_0605_0403_0201))
        #expect(Array(record[20..<28]) == [1, 2, 3, 4, 5, 6, 7, 8])
        for bit in 0..<24 * 8 {
            var damaged = Array(record[8...])
            damaged[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(throws: StreamError.malformedPrivateRecord) { try Announcement(recordBody: damaged) }
        }
        let begin = FramesBegin.encoded(version: .first)
        #expect(begin.count == 16)
        #expect(try FramesBegin.version(recordBody: Array(begin[8...])) == .first)
    }

    @Test func theNewestCommonVersionIsChosen() {
        func versions(_ oldest: UInt16, _ newest: UInt16) -> Announcement {
            Announcement(oldestVersion: .init(rawValue: oldest), newestVersion: .init(rawValue: newest))
        }
        func common(_ theirs: Announcement, _ oldest: UInt16, _ newest: UInt16) -> UInt16? {
            theirs.commonVersion(oldest: .init(rawValue: oldest), newest: .init(rawValue: newest))?.rawValue
        }
        #expect(common(versions(1, 1), 1, 1) == 1)
        #expect(common(versions(1, 3), 1, 2) == 2)
        #expect(common(versions(2, 3), 1, 4) == 3)
        #expect(common(versions(3, 4), 1, 2) == nil)
        #expect(common(versions(1, 2), 3, 4) == nil)
    }
}
