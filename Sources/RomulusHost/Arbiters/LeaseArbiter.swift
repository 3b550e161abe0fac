import Glibc
import RomulusCore
import Synchronization

/// Grants to whoever settles the run first, in one transaction in etcd, and refuses the other one when that runs.
///
/// Two keys per guest. One, for good, says what became of the newest run; the other is there while the primary of a run
/// lives, on a lease that it keeps alive and that a dead one loses after `lease_ttl_s`:
///
///     KEY         open RUN                   the run is under way, or nothing was decided
///                 settled RUN HOST SIDE      that side's copy is the guest, and is about to run
///                 runs RUN HOST SIDE         it does
///                 failed RUN HOST SIDE       it could not, and is gone: the other side may have it
///     KEY/lease   RUN HOST                   the primary lives
///
/// The primary may settle an open run, the backup one without a lease. "Settled" is not yet "runs": the side that is too late
/// keeps its copy, paused, until it reads `runs`, and settles a run anew that has failed. So the lease only says whom to wait for: the
/// decision is one transaction that one side wins, and hangs on no clock. However late the other asks, it finds the run
/// settled, or a later one.
final class LeaseArbiter: Arbiter {
    private let etcd: Etcd
    private let key: String
    private let run: String
    private let host: String
    private let ttlSeconds: Int
    private let log: Log
    private let keeper = Mutex<Thread?>(nil)
    private let isOver = Atomic(false)
    /// Before a lost lease is taken anew. The wait doubles each time, until a lease was kept for longer than the longest: a
    /// host that is too slow to keep one must not be made slower by the attempts.
    private static let shortestWait = 1000, longestWait = 32_000  // ms

    /// - Parameter run: the same on both sides, and another for every run.
    init(etcd: Etcd, key: String, run: String, host: String, ttlSeconds: Int, log: Log) {
        self.etcd = etcd
        self.key = key
        self.run = run
        self.host = host
        self.ttlSeconds = ttlSeconds
        self.log = log
    }

    func of(run: UInt64) -> Arbiter {
        LeaseArbiter(
            etcd: etcd, key: key, run: String(run, radix: 16), host: host, ttlSeconds: ttlSeconds, log: log)
    }

    private var leaseKey: String { "\(key)/lease" }
    private var holder: String { "\(run) \(host)" }
    private var open: String { "open \(run)" }
    private func settled(_ side: Side) -> String { "settled \(run) \(host) \(side)" }

    // MARK: Before the run

    func prepare(_ side: Side) throws(ArbiterError) {
        do {
            switch side {
            case .primary: try keepAlive(try begin())
            case .backup: _ = try etcd.get(key)
            }
        } catch let error as ArbiterError {
            throw error
        } catch {
            throw ArbiterError("etcd cannot be used (\(error)): is it up, and lease_endpoints right?")
        }
    }

    /// Opens the run. An earlier one is history, unless its primary lives: a lease that nobody keeps alive ends soon.
    ///
    /// - Returns: the lease.
    private func begin() throws -> String {
        let deadline = MonotonicTime.now + .nanoseconds(milliseconds: (ttlSeconds + 2) * 1000)
        while true {
            let living = try etcd.get(leaseKey)
            if living == nil {
                let earlier: Etcd.Condition =
                    if let record = try etcd.get(key) { .holds(key, record) } else { .absent(key) }
                let lease = try etcd.grantLease(seconds: ttlSeconds)
                let result = try etcd.change(
                    [.put(key, open), .put(leaseKey, holder, lease: lease)], if: [earlier, .absent(leaseKey)])
                if result == .changed { return lease }
            }
            guard MonotonicTime.now < deadline else {
                throw ArbiterError("etcd says that this guest is under another run's protection (\(living ?? "new"))")
            }
            usleep(300_000)
        }
    }

    // MARK: While it runs

    private func keepAlive(_ lease: String) throws(SystemError) {
        let thread = try Thread(name: "romulus-lease") { [self] in
            var lease: String? = lease
            var reasons = Reasons()
            var wait = Self.shortestWait
            while true {
                if let held = lease {
                    let kept = watch(held)
                    lease = nil
                    if isOver.load(ordering: .relaxed) { return }
                    if kept > .nanoseconds(milliseconds: Self.longestWait) { wait = Self.shortestWait }
                    reasons.tell("the lease was lost") { tellLost($0) }
                }
                pause(milliseconds: wait) { isOver.load(ordering: .relaxed) }
                if isOver.load(ordering: .relaxed) { return }
                wait = min(2 * wait, Self.longestWait)
                do {
                    lease = try renew()
                    if lease == nil { return }
                    reasons = Reasons()
                    log.note("the lease in etcd is there again")
                } catch {
                    reasons.tell("\(error)") { tellLost($0) }
                }
            }
        }
        keeper.withLock { $0 = thread }
    }

    private func tellLost(_ reason: String) {
        log.warning(
            "the lease in etcd cannot be kept (\(reason)): protection goes on, but should the link fail now, whoever"
                + " reaches etcd first has the guest")
    }

    /// Until the lease is lost, or the run over. The shell is there so that nobody keeps the lease alive for a dead `xl`:
    /// it ends both when its standard input does.
    ///
    /// - Returns: how long it was kept, in nanoseconds.
    private func watch(_ lease: String) -> Int64 {
        let begun = MonotonicTime.now
        let keeping = ["/bin/sh", "-c", "\"$@\" & read -r _; kill 0", "romulus-lease"]
        let command = keeping + etcd.command(["lease", "keep-alive", lease])
        guard var child = try? Subprocess(command, environment: etcd.environment) else { return 0 }
        var lastHeard = begun
        while !isOver.load(ordering: .relaxed) {
            guard let piece = child.read(until: .now + .nanoseconds(milliseconds: 200)) else { break }
            let text = String(decoding: piece, as: UTF8.self)
            if strstr(text, "expired") != nil || strstr(text, "rror") != nil { break }
            if !piece.isEmpty { lastHeard = .now }
            if MonotonicTime.now - lastHeard > .nanoseconds(milliseconds: ttlSeconds * 1000) { break }
        }
        _ = child.end()
        return MonotonicTime.now - begun
    }

    /// A new lease, where the run is still open; nil where it is not.
    private func renew() throws -> String? {
        let lease = try etcd.grantLease(seconds: ttlSeconds)
        let result = try etcd.change([.put(leaseKey, holder, lease: lease)], if: [.holds(key, open)])
        if case .found(let record) = result, record[key] == nil {
            log.warning("etcd has lost this run's record: start the run again, or decide yourself when the link fails")
        }
        return result == .changed ? lease : nil
    }

    // MARK: The decision

    func decide(
        _ side: Side, note: (String) -> Void, isWithdrawn: () -> Bool, isCancelled: () -> Bool
    ) -> ArbiterVerdict? {
        var reasons = Reasons()
        while !isWithdrawn(), !isCancelled() {
            do throws(Etcd.Unreachable) {
                switch try ask(side, isCancelled) {
                case .verdict(let verdict):
                    stopKeeping()
                    return verdict
                case .notYet(let reason): reasons.tell(reason, note)
                }
            } catch {
                if !isCancelled() { reasons.tell("etcd does not answer (\(error)); trying again", note) }
            }
            pause(milliseconds: 300) { isWithdrawn() || isCancelled() }
        }
        return nil
    }

    private enum Answer {
        case verdict(ArbiterVerdict)
        case notYet(String)
    }

    private func ask(_ side: Side, _ isCancelled: () -> Bool) throws(Etcd.Unreachable) -> Answer {
        let mine = settled(side)
        let result =
            switch side {
            case .primary:
                try etcd.change(
                    [.put(key, mine), .delete(leaseKey)], if: [.holds(key, open)], isCancelled: isCancelled)
            case .backup:
                try etcd.change(
                    [.put(key, mine)], if: [.holds(key, open), .absent(leaseKey)], isCancelled: isCancelled)
            }
        let granted = Answer.verdict(.granted("etcd has settled it for this host"))
        guard case .found(let found) = result else { return granted }
        guard let text = found[key] else {
            // An etcd that was emptied decides nothing: to refuse could end both copies.
            return .notYet("etcd knows nothing of this run: decide with romulus resume or romulus yield")
        }
        if text == open {
            return .notYet("the primary still has its lease in etcd; waiting for it to end, or to be settled")
        }
        // Another run's: this one's winner has run since.
        guard let record = Record(text), record.run == run else { return .verdict(.refused("etcd has `\(text)'")) }
        switch (record.state, record.side == side) {
        // The answer to an earlier transaction was lost, or the admin has settled it on the other host.
        case (.settled, true), (.runs, true): return granted
        case (.runs, false), (.failed, true): return .verdict(.refused("etcd has `\(text)'"))
        case (.settled, false):
            return .notYet(
                "etcd has settled it for \(record.host): the copy here stays paused until that one runs, or cannot; if that host"
                    + " is lost, decide with romulus resume or romulus yield")
        case (.failed, false):
            let taken = try etcd.change(
                [.put(key, mine), .delete(leaseKey)], if: [.holds(key, text)], isCancelled: isCancelled)
            return taken == .changed
                ? .verdict(.granted("etcd has settled it for this host, for \(record.host) could not run it"))
                : .notYet("etcd has changed at this moment; asking again")
        }
    }

    /// Of a run that is not open any more.
    private struct Record {
        enum State: String {
            case settled
            case runs
            case failed
        }

        var state: State
        var run: String
        var host: String
        var side: Side

        init?(_ text: String) {
            let words = text.split(separator: " ").map(String.init)
            guard words.count == 4, let state = State(rawValue: words[0]),
                let side = [Side.primary, .backup].first(where: { "\($0)" == words[3] })
            else { return nil }
            (self.state, run, host, self.side) = (state, words[1], words[2], side)
        }
    }

    // MARK: Granted, and running

    func objection(to side: Side) -> String? {
        guard let text = try? etcd.get(key), let record = Record(text), record.run == run, record.side != side else {
            return nil
        }
        return "etcd has `\(text)' by now"
    }

    func report(runs: Bool, by side: Side, insists: Bool = true) {
        var reasons = Reasons()
        while true {
            do throws(Etcd.Unreachable) {
                guard let text = try etcd.get(key), let record = Record(text), record.run == run, record.side == side,
                    record.state == .settled
                else { return }
                let state: Record.State = runs ? .runs : .failed
                let news = "\(state.rawValue) \(run) \(record.host) \(side)"
                if try etcd.change([.put(key, news)], if: [.holds(key, text)]) == .changed { return }
            } catch {
                guard insists else { return }
                reasons.tell("\(error)") {
                    log.warning(
                        "etcd cannot be told whether the guest runs here (\($0)); trying again, because the other host keeps its"
                            + " copy paused until it is")
                }
                pause(milliseconds: 1000) { false }
            }
        }
    }

    // MARK: The admin's word

    private let untold = Mutex<Side?>(nil)

    func settle(for winner: Side) -> Settlement {
        untold.withLock { $0 = nil }
        do throws(Etcd.Unreachable) {
            let news: [Etcd.Change] = [.put(key, settled(winner)), .delete(leaseKey)]
            while true {
                guard case .found(let found) = try etcd.change(news, if: [.holds(key, open)]) else { break }
                guard let text = found[key] else {
                    return .untold("etcd knows nothing of this run, and cannot be told what you have said")
                }
                guard let record = Record(text), record.run == run else {
                    return .superseded("etcd has `\(text)', a later run")
                }
                guard record.state != .runs || record.side == winner else {
                    return .contradicted("etcd has `\(text)', whatever the admin says")
                }
                if record.side == winner, record.state != .failed { break }
                // Settled for the other one, which is not known to run, or could not.
                if try etcd.change(news, if: [.holds(key, text)]) == .changed { break }
            }
            stopKeeping()
            return .settled
        } catch {
            untold.withLock { $0 = winner }
            return .untold(
                "etcd could not be told what you have said (\(error)); until it knows, it may give the guest to the other host"
            )
        }
    }

    func tellRest() {
        guard let winner = untold.withLock({ $0 }) else { return }
        while true {
            switch settle(for: winner) {
            case .settled: return log.note("etcd has been told what you have said")
            case .contradicted(let why), .superseded(let why):
                return log.error("\(why): look at both hosts, for two copies may run; keep one")
            case .untold(let danger):
                guard untold.withLock({ $0 }) != nil else { return log.error(danger) }
                pause(milliseconds: 1000) { false }
            }
        }
    }

    /// As for an `xl` that is dead: the lease lives on for its time.
    func stopKeeping() {
        isOver.store(true, ordering: .relaxed)
        keeper.withLock { keeper in
            keeper?.join()
            keeper = nil
        }
    }

    func end(for side: Side) {
        stopKeeping()
        // It may have been granted, and nobody has heard that.
        if side == .backup { report(runs: false, by: .primary, insists: false) }
        _ =
            switch side {
            // No replica is left: nobody waits for it to run.
            case .primary:
                try? etcd.change(
                    [.put(key, "runs \(run) \(host) primary"), .delete(leaseKey)], if: [.holds(key, open)])
            case .backup: try? etcd.change([.delete(leaseKey)], if: [.holds(leaseKey, holder)])
            }
    }

    func test() -> [CheckLine] {
        let scratch = "romulus/test/\(getpid())"
        let begun = MonotonicTime.now
        do {
            let lease = try etcd.grantLease(seconds: ttlSeconds)
            guard try etcd.change([.put(scratch, "test", lease: lease)], if: [.absent(scratch)]) == .changed,
                try etcd.get(scratch) == "test",
                try etcd.change([.delete(scratch)], if: [.holds(scratch, "test")]) == .changed
            else {
                return [.problem("etcd does not keep what is written: is it shared by others than this cluster?")]
            }
            let each = (MonotonicTime.now - begun).inMilliseconds / 4
            return [.ok("etcd grants, writes, reads and deletes, in \(each) ms each")] + testEnvironment()
        } catch {
            return [.problem("etcd cannot be used (\(error)): is it up, and lease_endpoints right?")]
                + testEnvironment()
        }
    }

    private func testEnvironment() -> [CheckLine] {
        let names = etcd.ignoredVariables
        guard !names.isEmpty else { return [] }
        return [
            .problem(
                "\(names.joined(separator: ", ")) in the environment is for nothing, because etcdctl is told by"
                    + " lease_endpoints and lease_options alone: set it there, and unset it here")
        ]
    }
}
