import Foundation
import RomulusCore
import RomulusHost
import SimulatedXen
import Testing

extension ProtectionTests {
    /// A guest whose pages come and go during a run, of which Xen 4.17's log of writes says nothing.
    @Suite struct ChangingMemoryTests {
        static let hole = UInt64(SimulatedDomain.holes.lowerBound)
        static let epochs: UInt64 = 6

        struct Run {
            var stream: DecodedStream
            var source: SimulatedDomain
            var outcome: HelperProcess.Outcome
            /// At the end of each epoch.
            var typesAsked: [UInt64]
            /// While the guest stood still for the first one.
            var typesAskedAtFirst: UInt64

            /// Whether the replica has every page that the guest has, as it is.
            func expectWhole(_ comment: Comment? = nil, sourceLocation: SourceLocation = #_sourceLocation) throws {
                let memory = try #require(stream.memories.last)
                let types = simxen_types(source.raw)!
                let wrong = (0..<source.pageCount).filter {
                    types[$0] == UInt8(SIMXEN_PAGE_RAM.rawValue)
                        && memory[UInt64($0)]?.contents
                            != Data(bytes: simxen_page(source.raw, UInt64($0)), count: 4096)
                }
                #expect(stream.memories.count == epochs, comment, sourceLocation: sourceLocation)
                #expect(wrong.isEmpty, "\(comment ?? ""): \(wrong.prefix(5))", sourceLocation: sourceLocation)
            }
        }

        private func run(
            _ engine: Engine, pages: Int = 4096, void: Range<Int> = 0..<0,
            prepare: (SimulatedDomain) -> Void = { _ in },
            beforeFirstEpoch: @escaping @Sendable (_ domain: UnsafeMutablePointer<simxen_domain>) -> Void = { _ in },
            after: @escaping @Sendable (_ domain: UnsafeMutablePointer<simxen_domain>, _ epoch: UInt64) -> Void
        ) throws -> Run {
            let place = try TemporaryFolder()
            let source = try SimulatedDomain(guestAt: place("source"), domid: 7, pageCount: pages, seed: 3, void: void)
            prepare(source)
            let typesAsked = Shared<[UInt64]>([])
            let askedBefore = Shared<UInt64?>(nil)
            let alone = try HelperAlone(
                saving: source, in: place, engine: engine,
                .init(
                    whileSuspended: { surroundings, epoch in
                        guard epoch == 1 else { return }
                        beforeFirstEpoch(surroundings.source.raw)
                        askedBefore.set(surroundings.source.raw.pointee.types_asked)
                    },
                    afterCheckpoint: { surroundings, epoch in
                        typesAsked.change { $0.append(surroundings.source.raw.pointee.types_asked) }
                        after(surroundings.source.raw, epoch)
                        if epoch == Self.epochs { surroundings.stop() } else { surroundings.commit(epoch) }
                    }))
            let outcome = try alone.outcome()
            let bytes = try Data(contentsOf: URL(fileURLWithPath: place("stream")))
            return Run(
                stream: try DecodedStream(bytes), source: source, outcome: outcome, typesAsked: typesAsked.value,
                typesAskedAtFirst: (typesAsked.value.first ?? 0) - (askedBefore.value ?? 0))
        }

        /// A guest whose shared info and grant frames can be mapped, are not counted, and no memory of its own (PVH), or that
        /// has pages which are counted and in no frame (HVM: those of the device model).
        @Test(arguments: [Engine.native, .stock], [0, 3] as [UInt64])
        func theFirstEpochLooksAtNoMoreThanOthersDo(_ engine: Engine, counted: UInt64) throws {
            let run = try run(
                engine,
                prepare: {
                    for page in [200, 201, 3000] { simxen_types($0.raw)[page] = UInt8(SIMXEN_PAGE_XEN.rawValue) }
                    $0.raw.pointee.other_pages = counted
                },
                after: { _, _ in })
            try run.expectWhole()
            #expect(run.typesAskedAtFirst < 1000, "\(run.typesAskedAtFirst)")
        }

        @Test(arguments: [Engine.native, .stock])
        func whatComesBetweenTheFirstCopyAndTheFirstEpochIsThere(_ engine: Engine) throws {
            let run = try run(
                engine, prepare: { $0.raw.pointee.other_pages = 3 },
                beforeFirstEpoch: { domain in
                    simxen_give_back(domain, 300)
                    #expect(simxen_take_again(domain, 300) != 0)
                    simxen_fill_page(domain, 300, 999)
                    simxen_populate(domain, Self.hole, 999)
                },
                after: { _, _ in })
            try run.expectWhole()
        }

        @Test(arguments: [Engine.native, .stock])
        func whatIsGivenBackAndTakenAgainWithinAnEpochIsReadAsItIsNow(_ engine: Engine) throws {
            let run = try run(engine) { domain, epoch in
                guard epoch == 2 else { return }
                for page in [UInt64(300), 301, 2000] {
                    simxen_give_back(domain, page)
                    #expect(simxen_take_again(domain, page) != 0)
                    simxen_fill_page(domain, page, 999)
                    simxen_mark_dirty(domain, page)
                }
            }
            try run.expectWhole()
            #expect(run.stream.pagesNamed[3].count < 600, "the fourth epoch is an ordinary one again")
        }

        @Test(arguments: [Engine.native, .stock])
        func whatIsTakenAgainEpochsLaterIsThere(_ engine: Engine) throws {
            for late in [3, 4, 5] as [UInt64] {
                let run = try run(engine) { domain, epoch in
                    if epoch == 1 { for page in 300..<900 as Range<UInt64> { simxen_give_back(domain, page) } }
                    guard epoch == late else { return }
                    for page in 300..<500 as Range<UInt64> {
                        #expect(simxen_take_again(domain, page) != 0)
                        simxen_fill_page(domain, page, 999)
                        simxen_mark_dirty(domain, page)
                    }
                }
                try run.expectWhole("taken again after epoch \(late)")
            }
        }

        @Test(arguments: [Engine.native, .stock])
        func newPagesAreThere(_ engine: Engine) throws {
            let run = try run(engine) { domain, epoch in
                if epoch == 2 || epoch == 3 { simxen_populate(domain, Self.hole + epoch, 999) }
            }
            try run.expectWhole()
        }

        @Test func onlyWhatIsNewIsSentWhereNothingWasReplaced() throws {
            let run = try run(.native) { domain, epoch in
                if epoch == 2 { for page in 0..<20 as Range<UInt64> { simxen_populate(domain, Self.hole + page, 999) } }
            }
            try run.expectWhole()
            #expect(run.stream.pagesNamed[2].count < 600, "\(run.stream.pagesNamed[2].count)")
        }

        @Test(arguments: [Engine.native, .stock])
        func pagesBehindTheLastOneAreFollowedOrTheRunEnds(_ engine: Engine) throws {
            // As where `xl mem-max` and `xl mem-set` go beyond what the guest began with.
            let run = try run(
                engine, pages: 8192, void: 4000..<8192,
                prepare: { simxen_set_param($0.raw, SimulatedDomain.Parameter.sharingPage, 3000) },
                after: { domain, epoch in
                    if epoch == 2 { for page in 5000..<5010 as Range<UInt64> { simxen_populate(domain, page, 999) } }
                })
            if engine == .native { return try run.expectWhole() }
            #expect(run.stream.memories.count < Self.epochs)
            #expect(run.outcome.standardError.contains("has grown"), "\(run.outcome.standardError)")
        }

        @Test func populateOnDemandIsFollowedWithoutSendingEverything() throws {
            let run = try run(
                .native,
                prepare: {
                    $0.raw.pointee.waiting_pages = 20
                    // In none of Xen's counts for it.
                    $0.raw.pointee.other_pages = 3
                },
                after: { domain, epoch in
                    guard epoch < Self.epochs else { return }
                    for page in 0..<3 as Range<UInt64> {
                        simxen_populate_on_demand(domain, Self.hole + 4 * epoch + page, epoch)
                    }
                })
            try run.expectWhole()
            #expect(run.stream.pagesNamed.dropFirst().allSatisfy { $0.count < 20 })
            let asked = zip(run.typesAsked.dropFirst(), run.typesAsked).map { $0 - $1 }
            #expect(asked.dropFirst().allSatisfy { $0 < 1000 }, "\(asked)")
        }

        @Test func aCacheThatShrinksHidesNoNewPage() throws {
            let run = try run(
                .native, prepare: { $0.raw.pointee.waiting_pages = 20 },
                after: { domain, epoch in
                    guard epoch == 2 else { return }
                    simxen_give_back(domain, 300)
                    domain.pointee.waiting_pages -= 1
                    #expect(simxen_take_again(domain, 300) != 0)
                    simxen_fill_page(domain, 300, 999)
                })
            try run.expectWhole()
        }
    }
}
