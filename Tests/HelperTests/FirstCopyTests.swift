import Foundation
import RomulusCore
import RomulusHost
import SimulatedXen
import Testing

extension ProtectionTests {
    /// What the native engine looks at in its first copy, and what it must not overlook.
    @Suite struct FirstCopyTests {
        /// A PVH guest's: the special pages end here.
        static let end = 0xFF000
        static let memory = 6000
        static let special = end - 8..<end
        static let pages = memory - SimulatedDomain.holes.count + special.count

        let folder: TemporaryFolder

        init() throws { folder = try TemporaryFolder() }

        struct FirstEpoch {
            var memory: [UInt64: DecodedStream.Page]
            var source: SimulatedDomain
            /// Before the guest was suspended.
            var typesAsked: UInt64
            var progress: [(doing: String, done: UInt64, total: UInt64)]

            /// Whether everything that the guest has was copied, as it is, and nothing else.
            func expectWhole(sourceLocation: SourceLocation = #_sourceLocation) {
                let types = simxen_types(source.raw)!
                let there = (0..<source.pageCount).filter { types[$0] == UInt8(SIMXEN_PAGE_RAM.rawValue) }
                let difference = Set(memory.keys).symmetricDifference(there.map(UInt64.init))
                #expect(difference.isEmpty, "\(difference.sorted().prefix(5))", sourceLocation: sourceLocation)
                let wrong = memory.filter { number, page in
                    page.contents != Data(bytes: simxen_page(source.raw, number), count: 4096)
                }
                #expect(wrong.isEmpty, "\(wrong.keys.sorted().prefix(5))", sourceLocation: sourceLocation)
            }
        }

        /// The first epoch of a guest that does not write.
        private func firstEpoch(
            end: Int = Self.end, void: Range<Int> = Self.memory..<Self.special.lowerBound,
            prepare: (SimulatedDomain) -> Void = { _ in },
            whileSuspended: @escaping @Sendable (SimulatedDomain) -> Void = { _ in }
        ) throws -> FirstEpoch {
            let place = try TemporaryFolder()
            let source = try SimulatedDomain(guestAt: place("source"), domid: 7, pageCount: end, seed: 3, void: void)
            prepare(source)
            let typesAsked = Shared<UInt64>(0)
            let progress = Shared<[(doing: String, done: UInt64, total: UInt64)]>([])
            let alone = try HelperAlone(
                saving: source, in: place, engine: .native,
                .init(
                    whileSuspended: { surroundings, _ in
                        typesAsked.set(surroundings.source.raw.pointee.types_asked)
                        whileSuspended(surroundings.source)
                    },
                    afterCheckpoint: { surroundings, _ in surroundings.stop() }),
                observe: { message in
                    if case .progress(_, let doing, let done, let total) = message {
                        progress.change { $0.append((doing, done, total)) }
                    }
                })
            let outcome = try alone.outcome()
            #expect(outcome.exit == .status(0), "\(outcome.story)")
            let stream = try DecodedStream(try Data(contentsOf: URL(fileURLWithPath: place("stream"))))
            return FirstEpoch(
                memory: try #require(stream.memories.first), source: source, typesAsked: typesAsked.value,
                progress: progress.value)
        }

        @Test func aMillionFrameNumbersWithoutAPageAreNotAskedFor() throws {
            let epoch = try firstEpoch()
            epoch.expectWhole()
            #expect(epoch.typesAsked < 9000, "\(epoch.typesAsked) for \(Self.pages) pages")
        }

        @Test func memoryAboveFourGibibytesIsFoundWithoutTheHoleBelowIt() throws {
            // A guest of 5 MiB with a hole from 4 MiB up, as one of 8 GiB has from 3.75 GiB up.
            let epoch = try firstEpoch(end: (1 << 20) + 700, void: 1024..<1 << 20) { source in
                for page in Self.special { simxen_populate(source.raw, UInt64(page), 5) }
            }
            epoch.expectWhole()
            #expect(epoch.typesAsked < 10_000, "\(epoch.typesAsked)")
        }

        @Test func aBalloonedGuestsMemoryIsFoundOnBothSidesOfItsHoles() throws {
            let epoch = try firstEpoch { source in
                for page in 1500..<4500 { simxen_give_back(source.raw, UInt64(page)) }
                for page in stride(from: 4600, to: 5000, by: 3) { simxen_give_back(source.raw, UInt64(page)) }
            }
            epoch.expectWhole()
            #expect(epoch.typesAsked < 14_000, "\(epoch.typesAsked)")
        }

        @Test func pagesWhereNobodyWouldLookAreFoundAllTheSame() throws {
            // Each alone in the void, first and last of it and between.
            let odd = [Self.memory + 2000, 0x8_0000, Self.special.lowerBound - 1].map(UInt64.init)
            let epoch = try firstEpoch { source in for page in odd { simxen_populate(source.raw, page, 5) } }
            epoch.expectWhole()
            #expect(epoch.memory.count == Self.pages + odd.count)
        }

        @Test func aCountThatIsNeverReachedHasEverythingLookedAt() throws {
            let epoch = try firstEpoch { $0.raw.pointee.waiting_pages = 1 }
            epoch.expectWhole()
            #expect(epoch.typesAsked >= Self.end)
        }

        @Test func aPageThatComesIntoBeingInTheVoidDuringTheWalkIsFound() throws {
            // At its beginning, in the middle, and in its last numbers.
            for after in [1, 3000, Self.pages] {
                let epoch = try firstEpoch { source in
                    source.raw.pointee.late_after = UInt64(after)
                    source.raw.pointee.late_page = 0x7_7777
                    source.raw.pointee.late_seed = 5
                }
                epoch.expectWhole()
                #expect(epoch.memory.count == Self.pages + 1)
            }
        }

        @Test func oneThatComesIntoBeingAfterTheWalkIsFoundToo() throws {
            let epoch = try firstEpoch(whileSuspended: { simxen_populate($0.raw, 0x7_7777, 5) })
            epoch.expectWhole()
            #expect(epoch.memory.count == Self.pages + 1)
        }

        @Test func theProgressCountsTheGuestsPages() throws {
            let progress = try firstEpoch().progress.filter { $0.doing.hasPrefix("Frames iteration 0") }
            #expect(progress.allSatisfy { $0.total == UInt64(Self.pages) }, "\(progress)")
            let done = progress.map(\.done)
            #expect(done.first == 0 && done.last == UInt64(Self.pages) && done == done.sorted(), "\(done)")
            #expect(done.contains { $0 > Self.pages / 3 && $0 < Self.pages * 2 / 3 }, "\(done)")
        }
    }
}
