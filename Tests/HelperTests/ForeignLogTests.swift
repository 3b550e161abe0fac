import Foundation
import RomulusCore
import RomulusHost
import SimulatedXen
import Testing

extension ProtectionTests {
    /// Somebody else saves or migrates a protected guest: libxc there takes bits of the log of writes, and turns it off.
    @Suite struct ForeignLogTests {
        enum Use: CaseIterable {
            /// As libxc's end of a save.
            case turnedOff
            /// As its beginning.
            case turnedOffAndOn
            /// As its rounds.
            case taken
        }

        private static func use(_ domain: UnsafeMutablePointer<simxen_domain>, _ use: Use) {
            let words = simxen_dirty_words(domain)!
            for word in 0..<Int(simxen_bitmap_length(domain.pointee.page_count)) / 8 { words[word] = 0 }
            if use == .turnedOff { simxen_store(&domain.pointee.log_dirty, 0) }
        }

        @Test(arguments: [Engine.native, .stock], Use.allCases)
        func itIsNoticedInTheEpochInWhichItHappens(_ engine: Engine, _ use: Use) throws {
            let place = try TemporaryFolder()
            let epochs = Shared<UInt64>(0)
            let alone = try HelperAlone(
                in: place, engine: engine,
                .init(afterCheckpoint: { surroundings, epoch in
                    epochs.set(epoch)
                    let domain = surroundings.source.raw
                    simxen_fill_page(domain, 20, 100 + epoch)
                    simxen_mark_dirty(domain, 20)
                    if epoch == 3 {
                        Self.use(domain, use)
                        // The guest goes on writing.
                        simxen_fill_page(domain, 30, 100)
                        simxen_mark_dirty(domain, 30)
                    }
                    if epoch == 6 { surroundings.stop() } else { surroundings.commit(epoch) }
                }))
            let outcome = try alone.outcome()
            #expect(epochs.value == 3, "the epoch after the foreign use was committed")
            let told = outcome.standardError.components(separatedBy: "somebody else").count - 1
            #expect(told == 1, "\(outcome.standardError)")
            // What the other one has yet to read is still there for it.
            let source = alone.surroundings.source
            if engine == .native, use != .turnedOff {
                #expect(source.isLogDirty)
                #expect(simxen_dirty_words(source.raw)[0] >> 30 & 1 == 1)
            }
        }

        /// As `xl save` does, which does not look at the log.
        @Test func aGuestThatSomebodyElseHasSuspendedIsLeftToThem() throws {
            let place = try TemporaryFolder()
            let epochs = Shared<UInt64>(0)
            let alone = try HelperAlone(
                in: place, engine: .native,
                .init(afterCheckpoint: { surroundings, epoch in
                    epochs.set(epoch)
                    if epoch == 3 { simxen_suspend(surroundings.source.raw) }
                    if epoch == 5 { surroundings.stop() } else { surroundings.commit(epoch) }
                }))
            let outcome = try alone.outcome()
            #expect(epochs.value == 3, "a checkpoint of a guest that was suspended by somebody else")
            #expect(alone.surroundings.source.isSuspended, "resumed under their hands")
            #expect(!outcome.standardError.contains("cannot be saved"), "\(outcome.standardError)")
        }
    }
}
