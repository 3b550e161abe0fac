import RomulusCheck
import Testing

@testable import romulus_cli

/// `romulus resume` of a guest whose `xl remus` was killed, at whatever moment.
@Suite struct OrphanedGuestTests {
    /// A domain as Xen counts.
    private final class Domain: OrphanHost {
        var pauses = 0
        var isSuspended = false
        var hasEnded = false
        var isOrdered = false
        var isHeld = false
        var canResume = true
        var canRelease = true
        var canPause = true
        var hasReplica = false
        var id: UInt32 { 7 }
        private(set) var said: [String] = []
        /// In this order.
        private(set) var steps: [String] = []

        var runs: Bool { pauses == 0 && !isSuspended && !hasEnded }
        var state: LocalGuest.State? {
            .init(isPaused: pauses > 0, isSuspended: isSuspended, hasEnded: hasEnded)
        }
        var isOutputHeld: Bool { isHeld }

        func releaseOutput() {
            steps.append("release")
            if canRelease { isHeld = false }
        }

        func takeSuspendOrder() { isOrdered = false }

        func resume() -> Bool {
            steps.append("resume")
            if canResume { isSuspended = false }
            return canResume
        }

        func say(_ text: String) { said.append(text) }
        func forgetReplica() { hasReplica = false }
        var isSecured = false
        func noteSecured() { isSecured = true }

        func pause() -> Bool {
            steps.append("pause")
            if canPause { pauses += 1 }
            return canPause
        }

        func unpause() -> Bool {
            steps.append("unpause")
            pauses = max(0, pauses - 1)
            return true
        }

        func wait(milliseconds: Int) {
            guard isOrdered, runs else { return }
            (isOrdered, isSuspended) = (false, true)
        }
    }

    private func orphan(_ setup: (Domain) -> Void) -> (Domain, OrphanedGuest) {
        let domain = Domain()
        setup(domain)
        return (domain, OrphanedGuest(host: domain))
    }

    @Test func pausedByTheGuardItRunsAndItsOutputLeaves() throws {
        let (domain, orphan) = orphan { ($0.pauses, $0.isHeld) = (1, true) }
        let done = try orphan.resume()
        #expect(domain.runs && !domain.isHeld)
        #expect(done.contains("output"), "\(done)")
    }

    @Test func pausedTwiceItRuns() throws {
        let (domain, orphan) = orphan { ($0.pauses, $0.isHeld) = (2, true) }
        let done = try orphan.resume()
        #expect(domain.runs && done.contains("2 times"), "\(done)")
    }

    @Test func leftSuspendedByACheckpointItRuns() throws {
        let (domain, orphan) = orphan { ($0.pauses, $0.isSuspended, $0.isHeld) = (1, true, true) }
        let done = try orphan.resume()
        #expect(domain.runs && done.contains("suspended"), "\(done)")
    }

    @Test func anOrderToSuspendThatWaitsForItIsTakenAway() throws {
        let (domain, orphan) = orphan { ($0.pauses, $0.isOrdered) = (1, true) }
        _ = try orphan.resume()
        domain.wait(milliseconds: 1000)
        #expect(domain.runs)
    }

    /// What it has not been resumed from may still be the replica's to go on from.
    @Test func whereItCannotRunItsOutputStaysHeld() {
        let (domain, orphan) = orphan { ($0.isSuspended, $0.isHeld, $0.canResume) = (true, true, false) }
        #expect(throws: Failure.self) { try orphan.resume() }
        #expect(domain.isHeld && !domain.runs)
    }

    @Test func whatCouldNotBeLetOutIsSaid() {
        let (domain, orphan) = orphan { ($0.pauses, $0.isHeld, $0.canRelease) = (1, true, false) }
        #expect(throws: Failure.self) { try orphan.resume() }
        #expect(domain.runs)
    }

    // MARK: Secured

    /// `systemctl kill -s KILL`: its guard was killed too.
    @Test func aCopyThatNobodyHasPausedIsPausedOnce() throws {
        let (domain, orphan) = orphan { $0.hasReplica = true }
        try orphan.secure()
        try orphan.secure()
        #expect(domain.pauses == 1 && domain.steps == ["pause"])
        #expect(domain.said.count == 1 && domain.said[0].contains("xl destroy 7"))
        // The admin has looked, and lets it run: the next xl remus that cannot begin changes nothing about that.
        domain.pauses = 0
        try orphan.secure()
        #expect(domain.pauses == 0)
    }

    @Test func aSuspendedCopyIsPausedToo() throws {
        let (domain, orphan) = orphan { ($0.hasReplica, $0.isSuspended) = (true, true) }
        try orphan.secure()
        #expect(domain.pauses == 1 && domain.steps == ["pause"])
    }

    @Test func whatNeedsNoPauseIsLeftAlone() throws {
        for setup: (Domain) -> Void in [
            { _ in }, { $0.isHeld = true }, { ($0.hasReplica, $0.pauses) = (true, 1) },
            { ($0.hasReplica, $0.hasEnded) = (true, true) },
        ] {
            let (domain, orphan) = orphan(setup)
            try orphan.secure()
            #expect(domain.steps == [] && domain.said == [])
        }
    }

    @Test func aCopyThatCannotBePausedIsAFailure() {
        let (_, orphan) = orphan { ($0.hasReplica, $0.canPause) = (true, false) }
        #expect(throws: Failure.self) { try orphan.secure() }
    }

    /// Else it would be refused its next protection, and paused by the next that looks.
    @Test func whatTheAdminLetsGoOnHasNoReplicaAnyMore() throws {
        let (domain, orphan) = orphan { ($0.hasReplica, $0.pauses) = (true, 1) }
        _ = try orphan.resume()
        #expect(domain.runs && !domain.hasReplica)
    }

    @Test func aGuestThatRunsOrHasShutDownIsLeftAlone() {
        for setup: (Domain) -> Void in [{ _ in }, { ($0.hasEnded, $0.isHeld) = (true, true) }] {
            let (domain, orphan) = orphan(setup)
            #expect(throws: Failure.self) { try orphan.resume() }
            #expect(domain.steps == [])
        }
    }
}
