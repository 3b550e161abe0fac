import Testing

@testable import RomulusCore

@Suite struct EpochCheckTests {
    private func pages(_ epoch: [UInt8]) throws -> Int {
        try epoch.withUnsafeBytes { try EpochCheck.pageCount(of: $0) }
    }

    @Test func countsThePagesOfSoundEpochs() throws {
        #expect(try pages(Sample.epoch(pages: 0)) == 0)
        #expect(try pages(Sample.epoch(pages: 5)) == 5)
        #expect(try pages(Sample.epoch(pages: 2, isHVM: true)) == 2)
        let tables: [UInt64] = [
            0x1000_0000_0000_0005, 0x9000_0000_0000_0006, 0xF000_0000_0000_0007, 0xD << 60, 0xE << 60,
        ]
        #expect(try pages(Sample.pageData(tables) + Sample.epoch(pages: 1)) == 6)
    }

    @Test func refusesAnEpochCutAnywhere() {
        let epoch = Sample.epoch(pages: 1, isHVM: true)
        for length in stride(from: 0, to: epoch.count, by: 3) {
            #expect(throws: StreamError.self, "\(length) of \(epoch.count)") { try pages(Array(epoch.prefix(length))) }
        }
    }

    @Test func refusesPageDataThatContradictsItself() {
        let good = Sample.pageData([1, 2])
        for (offset, value) in [(8, UInt8(3)), (8, 1), (8, 0), (23, 0xF0), (23, 0x50), (11, 0x80)] {
            var bad = good
            bad[offset] = value
            #expect(throws: StreamError.malformedPageData, "byte \(offset)") {
                try pages(bad + Sample.epoch(pages: 0))
            }
        }
    }

    @Test func refusesWhatTheStockRestorerWouldDieOf() {
        let epoch = Sample.epoch(pages: 1)
        #expect(throws: StreamError.unexpectedRecord(.libxc, type: 0x8000_0001)) {
            try pages(Sample.record(0x8000_0001, []) + epoch)
        }
        #expect(throws: StreamError.unexpectedRecord(.libxc, type: 0)) { try pages(Sample.record(0, []) + epoch) }
    }

    @Test func refusesRecordsOutOfPlace() {
        let epoch = Sample.epoch(pages: 1)
        #expect(throws: StreamError.bytesAfterEnd) { try pages(epoch + Sample.checkpointEnd) }
        #expect(throws: StreamError.self) { try pages(Array(epoch.dropLast(8))) }
        #expect(throws: StreamError.unexpectedRecord(.libxl, type: 1)) {
            try pages(Sample.checkpoint + Sample.libxcContext + Sample.checkpointEnd)
        }
        #expect(throws: StreamError.badHeader(.libxl)) {
            try pages(Sample.checkpoint + Sample.record(3, [1, 2]) + Sample.checkpointEnd)
        }
    }
}
