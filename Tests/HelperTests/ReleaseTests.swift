import Foundation
import RomulusCore
import RomulusHost
import SimulatedXen
import Testing

extension ProtectionTests {
    /// When the backup's relay lets go of an epoch, byte by byte: the test is the primary.
    @Suite struct ReleaseTests {
        let folder: TemporaryFolder

        init() throws { folder = try TemporaryFolder() }

        /// libxl's header and LIBXC_CONTEXT, libxc's two headers.
        private static let headersBytes = 16 + 8 + 24 + 16

        @Test func anEpochIsLibxlsOnlyAfterItsEndEvenIfTheFirstOneWasGoneBeforeItsOwn() throws {
            let (stream, ends) = try recordedStream()
            let (link, linkThere) = try OpenFile.pair()
            let (back, backThere) = try OpenFile.pair()
            let relay = try BackupRelay(
                link: linkThere.descriptor, back: backThere.descriptor,
                configuration: .init(
                    guest: "test",
                    session: .init(
                        detectTimeoutMilliseconds: 1_000, patienceNanoseconds: 10_000_000_000, arbiter: .none),
                    epochLimitBytes: 8 << 20), ports: .init(), log: Log(guest: "test"))
            try relay.start()
            let tap = try StreamTap(from: try OpenFile(duplicating: relay.streamForLibxl.raw))
            let libxl = Background {
                var chunk = [UInt8](repeating: 0, count: 64 << 10)
                while read(tap.exit.descriptor, &chunk, chunk.count) > 0 {}
            }

            var encoder = FrameEncoder()
            let begin = Announcement().encoded() + FramesBegin.encoded(version: .first)
            try send(Array(stream[..<Self.headersBytes]) + Announcement().encoded(), link)
            // The answer.
            _ = try BoundedIO.read(FrameFormat.headerBytes, from: back.descriptor, deadline: .now + .seconds(20))
            try send(FramesBegin.encoded(version: .first), link)
            try sendFrames(stream[Self.headersBytes..<ends[0]], &encoder, link)
            try wait(for: ends[0] + begin.count, tap)
            try send(
                encoder.frame(.epochEnd(Epoch(rawValue: 1), streamBytes: UInt64(ends[0] - Self.headersBytes))), link)
            try sendFrames(stream[ends[0]..<ends[1]], &encoder, link)
            link.shutDown()

            try libxl.value(within: .seconds(20))
            let outcome = relay.join(isRestored: true)
            #expect(outcome.end == .failOver(cause: "the link to the primary ended without a farewell"))
            #expect(outcome.lastEpoch.rawValue == 1)
            #expect(StockWalk.epochEnds(tap.bytes).count == 1)
            #expect(tap.bytes.count == ends[0] + begin.count)
        }

        private func recordedStream() throws -> (bytes: [UInt8], ends: [Int]) {
            let source = try SimulatedDomain(guestAt: folder("source"), domid: 7, pageCount: 512, seed: 4)
            let file = try OpenFile(folder("stream"), O_RDWR | O_CREAT)
            let saved = try StockBackup.startSaver(
                source, to: file, folder, EpochCopies(), afterEpoch: { $0 < 1 }
            ).outcome()
            try #require(saved.result == 0, "\(saved.story)")
            let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: folder("stream"))))
            let ends = StockWalk.epochEnds(bytes)
            try #require(ends.count == 2 && ends[1] == bytes.count)
            return (bytes, ends)
        }

        private func send(_ bytes: [UInt8], _ link: OpenFile) throws {
            try BoundedIO.write(bytes, to: link.descriptor, deadline: .now + .seconds(20))
        }

        private func sendFrames(_ stream: ArraySlice<UInt8>, _ encoder: inout FrameEncoder, _ link: OpenFile) throws {
            var rest = stream
            while !rest.isEmpty {
                let payload = Array(rest.prefix(FrameFormat.maximumPayloadBytes))
                rest = rest.dropFirst(payload.count)
                let header = payload.withUnsafeBytes {
                    encoder.dataHeader($0, UnsafeRawBufferPointer(start: nil, count: 0))
                }
                try send(header + payload, link)
            }
        }

        private func wait(for count: Int, _ tap: StreamTap) throws {
            let deadline = ContinuousClock.now + .seconds(20)
            while tap.bytes.count < count {
                guard ContinuousClock.now < deadline else { throw HelperTestError.timedOut(waitingFor: "epoch 1") }
                usleep(500)
            }
        }
    }
}
