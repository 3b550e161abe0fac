import Glibc
import RomulusCore
import Synchronization
import Testing

@testable import RomulusHost

/// Against a real etcd on loopback, one for all tests, each with a key of its own.
@Suite(.timeLimit(.minutes(2))) struct LeaseArbiterTests {
    private static let server = TestEtcd()

    private func etcd(_ server: TestEtcd = Self.server) -> Etcd {
        Etcd(endpoints: [server.endpoint], options: [], timeoutMilliseconds: 1000)
    }

    private func arbiter(
        _ key: String, run: String = "1f", host: String = "hosta", ttl: Int = 2, _ server: TestEtcd = Self.server
    ) -> LeaseArbiter {
        LeaseArbiter(
            etcd: etcd(server), key: key, run: run, host: host, ttlSeconds: ttl, log: Log(guest: "test"))
    }

    private func decide(_ arbiter: LeaseArbiter, _ side: Side, seconds: Int = 20) -> ArbiterVerdict? {
        let end = MonotonicTime.now + .nanoseconds(milliseconds: seconds * 1000)
        return arbiter.decide(side, note: { _ in }, isCancelled: { MonotonicTime.now > end })
    }

    private func isGranted(_ verdict: ArbiterVerdict?) -> Bool { if case .granted? = verdict { true } else { false } }
    private func isRefused(_ verdict: ArbiterVerdict?) -> Bool { if case .refused? = verdict { true } else { false } }

    @Test func aPrimaryThatAsksIsGrantedForGoodAndTheBackupRefused() throws {
        let (primary, backup) = (arbiter("romulus/a"), arbiter("romulus/a", host: "hostb"))
        try primary.prepare(.primary)
        try backup.prepare(.backup)
        #expect(isGranted(decide(primary, .primary)))
        #expect(isGranted(decide(primary, .primary)), "an answer may be lost, and asked for again")
        primary.report(runs: true, by: .primary)
        // Longer than the lease.
        usleep(2_500_000)
        #expect(isRefused(decide(backup, .backup)))
    }

    /// The winner may still fail: a bridge, a device model, memory that is not there.
    @Test(arguments: [Side.primary, .backup]) func whoeverIsTooLateIsRefusedWhenTheOtherRunsAndNotBefore(winner: Side)
        throws
    {
        for runs in [true, false] {
            let key = "romulus/runs-\(winner)-\(runs)"
            let (primary, backup) = (arbiter(key), arbiter(key, host: "hostb"))
            try primary.prepare(.primary)
            if winner == .backup { primary.stopKeeping() }
            let (first, second) = winner == .primary ? (primary, backup) : (backup, primary)
            let late: Side = winner == .primary ? .backup : .primary
            #expect(isGranted(decide(first, winner)))
            let notes = Mutex<[String]>([])
            let end = MonotonicTime.now + 1_500_000_000
            let verdict = second.decide(
                late, note: { note in notes.withLock { $0.append(note) } }, isCancelled: { MonotonicTime.now > end })
            #expect(verdict == nil, "the copy that could go on is given up: \(verdict as Any)")
            #expect(notes.withLock { $0.count == 1 && $0[0].contains("stays paused until that one runs, or cannot") })
            first.report(runs: runs, by: winner)
            let last = decide(second, late)
            #expect(runs ? isRefused(last) : isGranted(last), "\(last as Any)")
            // And never back again.
            if !runs {
                #expect(!isGranted(decide(first, winner, seconds: 1)))
                #expect(first.objection(to: winner)?.contains("settled 1f") == true)
                second.report(runs: true, by: late)
                #expect(isRefused(decide(first, winner)))
            }
            primary.stopKeeping()
        }
    }

    /// The winner was lost before it ran, and the admin knows.
    @Test func theAdminMayGiveAGuestThatWasGrantedAndNeverRanToTheOther() throws {
        let (primary, backup) = (arbiter("romulus/lostwinner"), arbiter("romulus/lostwinner", host: "hostb"))
        try primary.prepare(.primary)
        primary.stopKeeping()
        #expect(isGranted(decide(backup, .backup)))
        #expect(primary.settle(for: .primary) == .settled)
        #expect(backup.objection(to: .backup) != nil && isGranted(decide(primary, .primary)))
        primary.report(runs: true, by: .primary)
        guard case .contradicted = backup.settle(for: .backup) else {
            Issue.record("two copies")
            return
        }
    }

    @Test func aBackupWaitsWhileThePrimaryKeepsItsLeaseAndIsGrantedWhenThatHasEnded() throws {
        let (primary, backup) = (arbiter("romulus/b"), arbiter("romulus/b", host: "hostb"))
        try primary.prepare(.primary)
        #expect(decide(backup, .backup, seconds: 4) == nil, "the primary lives")
        // As a primary that has lost its power: nobody keeps the lease alive.
        primary.stopKeeping()
        #expect(isGranted(decide(backup, .backup)))
        backup.report(runs: true, by: .backup)
        #expect(isRefused(decide(primary, .primary)), "it comes back, and finds it settled")
    }

    @Test func ofTwoThatAskAtOnceExactlyOneIsGranted() throws {
        let rounds = (0..<6).map { round in
            [
                (arbiter("romulus/race\(round)"), Side.primary),
                (arbiter("romulus/race\(round)", host: "hostb"), Side.backup),
            ]
        }
        for sides in rounds {
            try sides[0].0.prepare(.primary)
            sides[0].0.stopKeeping()
        }
        // Primaries that froze for longer than their leases, and wake at the moment when the backups ask.
        usleep(2_500_000)
        for sides in rounds {
            let verdicts = Mutex<[ArbiterVerdict?]>([])
            let threads = try sides.map { arbiter, side in
                try RomulusHost.Thread(name: "ask") {
                    let verdict = decide(arbiter, side)
                    if isGranted(verdict) { arbiter.report(runs: true, by: side) }
                    verdicts.withLock { $0.append(verdict) }
                }
            }
            for thread in threads { thread.join() }
            let all = verdicts.withLock { $0 }
            #expect(all.filter(isGranted).count == 1 && all.filter(isRefused).count == 1, "\(all)")
        }
    }

    @Test func anEtcdThatIsAwayIsNoVerdictAndIsAskedAgainWhenItIsBack() throws {
        let server = TestEtcd()
        let primary = arbiter("romulus/away", server)
        try primary.prepare(.primary)
        server.setStopped(true)
        let notes = Mutex<[String]>([])
        let end = MonotonicTime.now + 7_000_000_000
        let verdict = primary.decide(
            .primary, note: { note in notes.withLock { $0.append(note) } }, isCancelled: { MonotonicTime.now > end })
        #expect(verdict == nil)
        #expect(notes.withLock { $0.count } == 1, "once per reason: \(notes.withLock { $0 })")
        server.setStopped(false)
        #expect(isGranted(decide(primary, .primary, seconds: 30)))
    }

    @Test func aRunThatHasEndedIsThePrimarysOrTheBackupsToTake() throws {
        for (winner, key) in [(Side.primary, "romulus/c1"), (Side.backup, "romulus/c2")] {
            let (primary, backup) = (arbiter(key), arbiter(key, host: "hostb"))
            try primary.prepare(.primary)
            primary.end(for: winner)
            let verdict = decide(backup, .backup, seconds: 5)
            #expect(winner == .backup ? isGranted(verdict) : isRefused(verdict), "\(winner): \(verdict as Any)")
        }
    }

    /// Destroyed by the admin, say, while etcd's answer was on its way.
    @Test func aPrimaryThatIsGrantedAndGoneLeavesTheGuestToTheBackup() throws {
        let (primary, backup) = (arbiter("romulus/gone"), arbiter("romulus/gone", host: "hostb"))
        try primary.prepare(.primary)
        #expect(isGranted(decide(primary, .primary)))
        primary.end(for: .backup)
        #expect(isGranted(decide(backup, .backup)))
    }

    /// The old primary was stopped for as long as that, and asks when it goes on.
    @Test func aPrimaryIsRefusedHoweverManyRunsThereWereSince() throws {
        let key = "romulus/late"
        let (primary, backup) = (arbiter(key), arbiter(key, host: "hostb"))
        try primary.prepare(.primary)
        primary.stopKeeping()
        #expect(isGranted(decide(backup, .backup)))
        backup.report(runs: true, by: .backup)
        #expect(isRefused(decide(primary, .primary)))
        let second = arbiter(key, run: "2e", host: "hostb")
        try second.prepare(.primary)
        #expect(try etcd().get(key) == "open 2e")
        #expect(isRefused(decide(primary, .primary)), "a later run is under way")
        second.end(for: .backup)
        #expect(isRefused(decide(primary, .primary)), "a later run has ended undecided")
        let third = arbiter(key, run: "3d", host: "hostb")
        try third.prepare(.primary)
        third.end(for: .primary)
        #expect(try etcd().get("\(key)/lease") == nil)
        #expect(isRefused(decide(primary, .primary)) && isRefused(decide(backup, .backup)))
    }

    /// `romulus resume` or `romulus yield` on either host, while the other one cannot be asked.
    @Test(arguments: [Side.primary, .backup], [Side.primary, .backup]) func theAdminsWordIsWhatTheOtherHostFindsInEtcd(
        speaker: Side, winner: Side
    ) throws {
        let key = "romulus/word-\(speaker)-\(winner)"
        let (primary, backup) = (arbiter(key), arbiter(key, host: "hostb"))
        try primary.prepare(.primary)
        let (own, other) = speaker == .primary ? (primary, backup) : (backup, primary)
        #expect(own.settle(for: winner) == .settled)
        let side: Side = speaker == .primary ? .backup : .primary
        if winner != side { own.report(runs: true, by: winner) }
        #expect(winner == side ? isGranted(decide(other, side)) : isRefused(decide(other, side)))
        primary.stopKeeping()
    }

    @Test func aWordAgainstWhatIsSettledIsToldAndChangesNothing() throws {
        let (primary, backup) = (arbiter("romulus/against"), arbiter("romulus/against", host: "hostb"))
        try primary.prepare(.primary)
        #expect(isGranted(decide(primary, .primary)))
        primary.report(runs: true, by: .primary)
        guard case .contradicted(let why) = backup.settle(for: .backup) else {
            Issue.record("two copies")
            return
        }
        #expect(why.contains("runs 1f hosta primary"))
        #expect(backup.settle(.resume, by: .backup, guest: "web", Log(guest: "web")) == .verdict(.refused(why)))
        #expect(backup.settle(for: .primary) == .settled)
    }

    /// The other host has taken the guest over, and is protected itself by now.
    @Test func aWordOfARunThatIsLongOverGivesNobodyTheGuest() throws {
        let old = arbiter("romulus/later")
        try old.prepare(.primary)
        #expect(isGranted(decide(old, .primary)))
        let later = arbiter("romulus/later", run: "2f", host: "hostb")
        try later.prepare(.primary)
        for word in [AdminWord.yield, .resume] {
            guard case .verdict(.refused(let why)) = old.settle(word, by: .primary, guest: "web", Log(guest: "web"))
            else {
                Issue.record("\(word): two copies")
                return
            }
            #expect(why.contains("a later run"))
        }
        old.stopKeeping()
        later.stopKeeping()
    }

    @Test func aWordThatEtcdCouldNotHearIsToldItWhenItIsBack() throws {
        let server = TestEtcd()
        let (primary, backup) = (arbiter("romulus/untold", server), arbiter("romulus/untold", host: "hostb", server))
        try primary.prepare(.primary)
        server.setStopped(true)
        guard case .untold = primary.settle(for: .primary) else {
            Issue.record("told whom?")
            return
        }
        server.setStopped(false)
        primary.tellRest()
        primary.report(runs: true, by: .primary)
        #expect(isRefused(decide(backup, .backup)))
    }

    private func etcdctl(_ etcd: Etcd, _ words: String...) -> [Substring] {
        Subprocess.run(etcd.command(words), environment: etcd.environment, timeoutMilliseconds: 5000).output.split(
            separator: "\n")
    }

    @Test func aLeaseThatIsLostAgainAndAgainIsTakenAnewAndEachTimeLater() throws {
        let server = TestEtcd()
        let etcd = etcd(server)
        let primary = arbiter("romulus/lost", ttl: 6, server)
        try primary.prepare(.primary)
        for seconds in [1, 2, 4] as [Int64] {
            // The first line says how many.
            for lease in etcdctl(etcd, "lease", "list").dropFirst() {
                _ = etcdctl(etcd, "lease", "revoke", String(lease))
            }
            let lost = MonotonicTime.now
            #expect(try etcd.get("romulus/lost/lease") == nil)
            while try etcd.get("romulus/lost/lease") == nil, MonotonicTime.now < lost + 30_000_000_000 {
                usleep(50_000)
            }
            #expect(try etcd.get("romulus/lost/lease") == "1f hosta")
            // Lost a moment before that was known here.
            #expect(MonotonicTime.now - lost > seconds * 1_000_000_000 - 500_000_000)
        }
        primary.end(for: .primary)
    }

    @Test func anEtcdThatWasEmptiedDecidesNothingAndSaysSo() throws {
        let primary = arbiter("romulus/empty")
        try primary.prepare(.primary)
        _ = try etcd().change([.delete("romulus/empty"), .delete("romulus/empty/lease")], if: [])
        for (one, side) in [(primary, Side.primary), (arbiter("romulus/empty", host: "hostb"), .backup)] {
            let notes = Mutex<[String]>([])
            let end = MonotonicTime.now + 1_500_000_000
            let verdict = one.decide(
                side, note: { note in notes.withLock { $0.append(note) } }, isCancelled: { MonotonicTime.now > end })
            #expect(verdict == nil)
            #expect(
                notes.withLock { $0 } == ["etcd knows nothing of this run: decide with romulus resume or romulus yield"]
            )
        }
        primary.end(for: .primary)
    }

    @Test func anotherRunsLivingLeaseIsRefusedWithItsName() throws {
        let first = arbiter("romulus/d")
        try first.prepare(.primary)
        defer { first.end(for: .primary) }
        do {
            try arbiter("romulus/d", run: "2e", host: "hostc").prepare(.primary)
            Issue.record("two runs")
        } catch {
            #expect("\(error)".contains("1f hosta"))
        }
    }

    @Test func withoutEtcdNothingIsPreparedAndTheTestSaysWhy() {
        let nowhere = LeaseArbiter(
            etcd: Etcd(endpoints: ["http://127.0.0.1:1"], options: [], timeoutMilliseconds: 500), key: "romulus/e",
            run: "1", host: "hosta", ttlSeconds: 2, log: Log(guest: "test"))
        #expect(throws: ArbiterError.self) { try nowhere.prepare(.backup) }
        #expect(nowhere.test().contains { $0.isProblem && $0.text.contains("lease_endpoints") })
        #expect(arbiter("romulus/f").test().allSatisfy { !$0.isProblem })
    }

    /// etcdctl refuses an option whose variable is set too.
    @Test func whatTheEnvironmentSaysToEtcdctlIsDroppedAndTold() {
        var etcd = etcd(Self.server)
        etcd.inherited += ["ETCDCTL_ENDPOINTS=http://127.0.0.1:1", "ETCDCTL_API=2"]
        let arbiter = LeaseArbiter(
            etcd: etcd, key: "romulus/g", run: "1", host: "hosta", ttlSeconds: 2, log: Log(guest: "test"))
        let lines = arbiter.test()
        #expect(lines.count == 2 && !lines[0].isProblem, "\(lines)")
        #expect(lines.last?.isProblem == true && lines.last?.text.hasPrefix("ETCDCTL_ENDPOINTS in the") == true)
    }

    @Test func aPasswordIsNoArgument() {
        let etcd = Etcd(
            endpoints: [], options: ["--user=root:a=b", "--cacert=/ca.pem", "--password", "secret"],
            timeoutMilliseconds: 500, inherited: ["PATH=/bin"])
        #expect(!etcd.command(["get"]).joined().contains("root:a=b") && etcd.command([]).last == "--cacert=/ca.pem")
        #expect(!etcd.command([]).contains("secret"))
        #expect(
            etcd.environment == ["PATH=/bin", "ETCDCTL_API=3", "ETCDCTL_USER=root:a=b", "ETCDCTL_PASSWORD=secret"])
    }

    @Test func whatEtcdctlComplainsOfIsNoAnswer() throws {
        let folder = TestFolder()
        try folder.write(
            "etcdctl", "#!/bin/sh\necho 'warning: slow' >&2\necho lease 7f granted with TTL\n", mode: 0o755)
        let etcd = Etcd(
            endpoints: [], options: [], timeoutMilliseconds: 500, inherited: ["PATH=\(folder.path):/bin"])
        #expect(try etcd.grantLease(seconds: 2) == "7f")
    }
}
