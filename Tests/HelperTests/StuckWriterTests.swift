import Foundation
import RomulusCore
import RomulusHost
import SimulatedXen
import Testing

extension ProtectionTests {
    /// Nobody takes what is said, and protection does not mind.
    @Suite struct StuckWriterTests {
        let folder: TemporaryFolder

        init() throws { folder = try TemporaryFolder() }

        /// The first line is due with the first epoch ("protected"), and a relay that waits for it is soon a dead one.
        @Test func withATerminalThatIsStoppedTheGuestStaysProtected() throws {
            let terminal = try StoppedTerminal()
            let log = Log(guest: "test", terminal: terminal.writer.descriptor, isAside: true)
            let guest = try ProtectedGuest(
                in: folder, .init(detectTimeoutMilliseconds: 300, periodMilliseconds: 20, log: log))
            try guest.waitForCommits(40)
            #expect(log.newestEvent != nil)
            guest.interrupt()
            let ending = try guest.end()
            #expect(ending.primary.end.cause == .stopRequested(signalName: "SIGINT"))
            #expect(guest.freezer.freezes == 0)
            guest.expectDiscard(ending, cause: "the primary said farewell: protection was ended by SIGINT", "stuck")
        }

        /// The guard has said one line that nobody takes, and goes on watching.
        @Test func withATerminalThatIsStoppedTheGuardFreezesAgain() throws {
            let terminal = try StoppedTerminal()
            let pauses = Shared([Int]())
            let helper = try HelperAlone(
                saving: SimulatedDomain(guestAt: folder("source"), domid: 7, pageCount: 512, seed: 3), in: folder,
                .init(afterCheckpoint: { around, epoch in
                    guard epoch == 3 else { return around.commit(epoch) }
                    for _ in 0..<2 {
                        around.lease.set(.now + .nanoseconds(milliseconds: 100))
                        usleep(1_000_000)
                        pauses.change { $0.append(around.source.calls(SIMXEN_CALL_PAUSE)) }
                    }
                    around.stop()
                }), guardsError: terminal.writer)
            let outcome = try helper.outcome()
            #expect(pauses.value == [1, 2], "\(outcome.story)")
        }
    }
}
