import Testing

@testable import RomulusCore

@Suite struct StreamCursorTests {
    @Test func findsEveryBoundaryOfAnHVMStream() throws {
        let stream = Sample.head + Sample.epoch(pages: 2, isHVM: true)
        let found = try boundaries(stream) { stream.count }.map(\.boundary)
        #expect(
            found == [
                .libxlHeader, .libxlRecord(.libxcContext), .libxcHeaders, .libxcRecord(.pageData),
                .libxcRecord(.init(rawValue: 8)), .libxcRecord(.init(rawValue: 9)), .libxcRecord(.checkpoint),
                .libxlRecord(.emulatorXenstoreData), .libxlRecord(.emulatorContext), .libxlRecord(.checkpointEnd),
            ])
    }

    @Test func howAStreamIsCutChangesNothing() throws {
        for seed in UInt64(0)..<60 {
            var random = Seeded(seed)
            var stream = Sample.head
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                stream += Sample.epoch(
                    pages: Int.random(in: 0...3, using: &random), isHVM: Bool.random(using: &random))
            }
            let whole = try boundaries(stream) { stream.count }
            let cut = try boundaries(stream) { Int.random(in: 1...40, using: &random) }
            #expect(whole.map(\.offset) == cut.map(\.offset), "seed \(seed)")
            #expect(whole.map(\.boundary) == cut.map(\.boundary), "seed \(seed)")
        }
    }

    @Test func countsThePagesOfAnEpoch() throws {
        var cursor = StreamCursor()
        let stream = Sample.head + Sample.epoch(pages: 3)
        var offset = 0
        try stream.withUnsafeBytes { raw in
            while offset < raw.count {
                offset += try cursor.advance(over: UnsafeRawBufferPointer(rebasing: raw[offset...])).passedBytes
            }
        }
        let counts = [cursor.takePageCount(), cursor.takePageCount()]
        #expect(counts == [3, 0])
    }

    @Test(arguments: [
        (0, StreamError.badHeader(.libxl)),
        (11, .unsupportedVersion(.libxl, 2 ^ 1)),
        (15, .badHeader(.libxl)),
        (24, .badHeader(.libxc)),
        (32, .badHeader(.libxc)),
        (39, .unsupportedVersion(.libxc, 3 ^ 1 ^ 0)),
        (41, .badHeader(.libxc)),
    ]) func refusesADamagedHeader(offset: Int, expected: StreamError) {
        var stream = Sample.head
        // Version 2 of the libxc stream is fine, so its version is damaged by another bit.
        stream[offset] ^= offset == 39 ? 0x80 : 1
        #expect { try boundaries(stream) { 5 } } throws: { error in
            if offset == 39 { return error as? StreamError == .unsupportedVersion(.libxc, 0x83) }
            return error as? StreamError == expected
        }
    }

    @Test func refusesLengthsAboveTheBoundBeforeAnyByteOfTheBody() {
        var long = Sample.head
        long.append(littleEndian: UInt32(9))
        long.append(littleEndian: UInt32((128 << 20) + 1))
        #expect(throws: StreamError.recordTooLong(.libxc, type: 9, lengthBytes: (128 << 20) + 1)) {
            try boundaries(long) { 3 }
        }
        var libxl = Sample.libxlHeader
        libxl.append(littleEndian: UInt32(3))
        libxl.append(littleEndian: UInt32.max)
        #expect(throws: StreamError.recordTooLong(.libxl, type: 3, lengthBytes: Int(UInt32.max))) {
            try boundaries(libxl) { 3 }
        }
    }

    @Test func refusesUnknownMandatoryRecordsAndPassesOptionalOnes() throws {
        #expect(throws: StreamError.unexpectedRecord(.libxc, type: 0x13)) {
            try boundaries(Sample.head + Sample.record(0x13, [])) { 9 }
        }
        #expect(throws: StreamError.unexpectedRecord(.libxl, type: 6)) {
            try boundaries(Sample.libxlHeader + Sample.record(6, [])) { 9 }
        }
        let optional = Sample.head + Sample.record(0x8000_0013, [1, 2, 3])
        #expect(try boundaries(optional) { 9 }.last?.boundary == .libxcRecord(.init(rawValue: 0x8000_0013)))
    }

    @Test func refusesAPageDataRecordWithoutRoomForItsCount() {
        #expect(throws: StreamError.malformedPageData) {
            try boundaries(Sample.head + Sample.record(1, [0, 0, 0, 0])) { 4 }
        }
    }

    @Test func refusesAPrivateRecordThatIsTooLong() {
        let record = Sample.record(PrivateRecord.announcement.rawValue, [UInt8](repeating: 0, count: 72))
        #expect(throws: StreamError.malformedPrivateRecord) { try boundaries(Sample.head + record) { 4 } }
    }

    @Test func bytesAfterTheEndAreAnError() {
        let ended = Sample.head + Sample.record(0, []) + Sample.record(0, [])
        #expect(throws: StreamError.bytesAfterEnd) { try boundaries(ended + [1]) { 8 } }
    }
}
