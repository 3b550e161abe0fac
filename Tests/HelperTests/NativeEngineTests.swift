import Foundation
import RomulusCore
import RomulusHost
import SimulatedXen
import Testing

extension ProtectionTests {
    /// The native engine in the stock helper, beside the stock engine.
    @Suite struct NativeEngineTests {
        let folder: TemporaryFolder

        init() throws { folder = try TemporaryFolder() }

        /// One run of some epochs; the same steps give the same guest.
        private func run(
            _ engine: Engine, epochs: UInt64 = 4, pages: Int = 4096,
            after: @escaping HelperAlone.Steps.Step = { _, _ in }
        ) throws -> (stream: Data, source: SimulatedDomain, outcome: HelperProcess.Outcome) {
            let place = try TemporaryFolder()
            let alone = try HelperAlone(
                in: place, engine: engine, pages: pages,
                .init(
                    afterCheckpoint: { surroundings, epoch in
                        try after(surroundings, epoch)
                        if epoch == epochs { surroundings.stop() } else { surroundings.commit(epoch) }
                    }))
            let outcome = try alone.outcome()
            return (
                try Data(contentsOf: URL(fileURLWithPath: place("stream"))), alone.surroundings.source, outcome
            )
        }

        private func write(_ surroundings: HelperAlone.Surroundings, _ epoch: UInt64) throws {
            var generator = SeededGenerator(seed: epoch)
            #expect(surroundings.source.dirty(60, using: &generator))
        }

        @Test func itsStreamSaysTheSameAsTheStockOnesEpochForEpoch() throws {
            let streams = try [Engine.native, .stock].map { engine in
                let (bytes, source, outcome) = try run(engine, after: write)
                #expect(outcome.exit == .status(0), "\(outcome.story)")
                #expect(source.calls(SIMXEN_CALL_UNKNOWN) == 0)
                return try DecodedStream(bytes)
            }
            let (native, stock) = (streams[0], streams[1])
            #expect(native.headers == stock.headers)
            #expect(native.memories.count == 4 && stock.memories.count == 4)
            #expect(native.records == stock.records)
            for epoch in 0..<4 {
                #expect(native.memories[epoch] == stock.memories[epoch], "epoch \(epoch + 1)")
                #expect(native.memories[epoch].count == 4096 - SimulatedDomain.holes.count)
                guard epoch > 0 else { continue }
                // The stock engine sends the witness of its log too.
                #expect(native.pagesNamed[epoch].union([4093]) == stock.pagesNamed[epoch], "epoch \(epoch + 1)")
            }
        }

        @Test func afterTheFirstEpochNothingIsMappedAnyMore() throws {
            let counts = Shared<[Int]>([])
            _ = try run(
                .native, epochs: 12, pages: 16_384,
                after: { surroundings, epoch in
                    let source = surroundings.source
                    let count = source.calls(SIMXEN_CALL_MAP) + source.calls(SIMXEN_CALL_UNMAP)
                    counts.set(counts.value + [count])
                    try write(surroundings, epoch)
                })
            #expect(counts.value.count == 12 && counts.value[0] > 0)
            #expect(Set(counts.value.dropFirst()).count == 1, "\(counts.value)")
        }

        @Test func whileTheGuestStandsStillNothingIsAllocated() throws {
            func allocations(_ engine: Engine) throws -> [UInt64] {
                let counts = Shared<[UInt64]>([])
                _ = try run(
                    engine, epochs: 12,
                    after: { surroundings, epoch in
                        counts.set(counts.value + [surroundings.source.raw.pointee.copying_allocations])
                        try write(surroundings, epoch)
                    })
                return counts.value
            }
            let native = try allocations(.native)
            #expect(native.count == 12 && Set(native.dropFirst()).count == 1, "\(native)")
            let stock = try allocations(.stock)
            #expect(Set(stock).count == 12, "the stock engine's are counted, so the count counts: \(stock)")
        }

        @Test func xensOwnVerifierTakesItsStream() throws {
            // The verifier knows no libxl records between libxc's, and reads to an END record, which no run has.
            var bytes = try DecodedStream(try run(.native, after: write).stream).libxc + Data(count: 8)
            let path = folder("verified")
            try bytes.write(to: URL(fileURLWithPath: path))
            let answer = try Program.verifyStream(path, format: "libxc")
            #expect(answer.status == 0, "\(answer.output.suffix(500))")
            #expect(answer.output.contains("Checkpoint"))
            bytes[40] ^= 1
            try bytes.write(to: URL(fileURLWithPath: path))
            #expect(try Program.verifyStream(path, format: "libxc").status != 0, "the verifier looks at nothing")
        }

        @Test func aPageThatIsNewOrTakenAgainIsReadAsItIsNow() throws {
            let hole = UInt64(SimulatedDomain.holes.lowerBound)
            // Each alone: a mapping that is made anew for one would show the other's page too.
            for (page, isGivenBack) in [(hole, false), (300, true)] {
                let (bytes, _, _) = try run(
                    .native, epochs: 4,
                    after: { surroundings, epoch in
                        let domain = surroundings.source.raw
                        if epoch == 2 {
                            if isGivenBack { simxen_give_back(domain, page) }
                            #expect(simxen_take_again(domain, page) != 0)
                            simxen_fill_page(domain, page, 999)
                        }
                        try write(surroundings, epoch)
                    })
                let other = try SimulatedDomain(emptyAt: folder("other\(page)"), domid: 1, pageCount: 4096)
                simxen_fill_page(other.raw, page, 999)
                let contents = Data(bytes: simxen_page(other.raw, page), count: 4096)
                let memories = try DecodedStream(bytes).memories
                #expect(memories[1][page]?.contents != contents)
                #expect(memories[2][page]?.contents == contents, "page \(page) is stale")
            }
        }

        @Test func whatTheGuestHasGivenBackIsLetGo() throws {
            let kept = Shared<[UInt64]>([])
            _ = try run(
                .native, epochs: 8,
                after: { surroundings, epoch in
                    kept.set(kept.value + [simxen_kept_frames(surroundings.source.raw)])
                    if epoch == 3 { for page in 300..<340 { simxen_give_back(surroundings.source.raw, UInt64(page)) } }
                })
            #expect(kept.value.prefix(3) == [0, 0, 0])
            #expect(kept.value.last == 0, "\(kept.value)")
        }

        @Test func aFaultEndsTheRunWithItsErrnoAndItsReason() throws {
            for (call, words) in [
                (SIMXEN_CALL_LOGDIRTY_CONTROL, "log of the guest's writes"), (SIMXEN_CALL_GET_PFN_TYPES, "page types"),
                (SIMXEN_CALL_GET_CONTEXT, "HVM context"), (SIMXEN_CALL_GET_PARAM, "HVM parameter"),
                (SIMXEN_CALL_GET_TSC, "TSC"),
            ] {
                let (_, source, outcome) = try run(
                    .native,
                    after: { surroundings, epoch in
                        if epoch == 2 { simxen_arm_fault(surroundings.source.raw, call, EINVAL, 1) }
                        try write(surroundings, epoch)
                    })
                #expect(outcome.result == -1 && outcome.errorNumber == EINVAL, "\(outcome.story)")
                #expect(!source.isLogDirty, "the log of writes is left on")
                #expect(outcome.standardError.contains(words), "\(outcome.standardError)")
            }
        }

        @Test func moreDirtyPagesThanStagingHoldsAreAllThere() throws {
            // HelperAlone's staging is the least there is: two batches.
            let (bytes, source, outcome) = try run(
                .native, epochs: 2, pages: 8192,
                after: { surroundings, _ in
                    let domain = surroundings.source
                    for page in 0..<UInt64(8189)
                    where simxen_types(domain.raw)[Int(page)] == UInt8(SIMXEN_PAGE_RAM.rawValue) {
                        simxen_fill_page(domain.raw, page, 77)
                        simxen_mark_dirty(domain.raw, page)
                    }
                })
            #expect(outcome.exit == .status(0), "\(outcome.story)")
            let memory = try #require(try DecodedStream(bytes).memories.last)
            #expect(memory.count == 8192 - SimulatedDomain.holes.count)
            for (number, page) in memory where number < 8190 {
                #expect(page.contents == Data(bytes: simxen_page(source.raw, number), count: 4096))
            }
        }
    }
}
