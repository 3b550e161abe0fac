import Glibc
import RomulusCore
import Synchronization

/// Grants to whoever has, or takes, one key in etcd.
///
/// While a run lasts the primary holds the key on a lease that it keeps alive; a primary that is dead loses it after
/// `lease_ttl_s`. Whoever is granted the guest writes the key once more, for good and without a lease: the other side,
/// however late it asks, finds it settled. So the lease only says whom to wait for; the decision is one transaction that
/// one side wins, and does not hang on any clock.
///
///     leased RUN HOST            the run is under way
///     settled RUN HOST SIDE      that side's copy is the guest
final class LeaseArbiter: Arbiter {
    private let etcd: Etcd
    private let key: String
    private let holder: String
    private let ttlSeconds: Int
    private let log: Log
    private let keeper = Mutex<Thread?>(nil)
    private let isOver = Atomic(false)

    init(etcd: Etcd, key: String, holder: String, ttlSeconds: Int, log: Log) {
        self.etcd = etcd
        self.key = key
        self.holder = holder
        self.ttlSeconds = ttlSeconds
        self.log = log
    }

    private var run: Substring { holder.prefix { $0 != " " } }
    private var leased: String { "leased \(holder)" }
    private func settled(_ side: Side) -> String { "settled \(holder) \(side)" }

    // MARK: Before the run

    func prepare(_ side: Side) throws(ArbiterError) {
        do {
            switch side {
            case .primary:
                let lease = try takeLease()
                try keepAlive(lease)
            case .backup: _ = try etcd.get(key)
            }
        } catch let error as ArbiterError {
            throw error
        } catch {
            throw ArbiterError("etcd cannot be used (\(error)): is it up, and lease_endpoints right?")
        }
    }

    /// An earlier run may be settled; its record is history. One that is still leased is somebody's, or the lease of a
    /// run that died, and then it ends soon.
    private func takeLease() throws -> String {
        let deadline = MonotonicTime.now + .nanoseconds(milliseconds: (ttlSeconds + 2) * 1000)
        while true {
            let lease = try etcd.grantLease(seconds: ttlSeconds)
            var result = try etcd.change(key, if: .absent, .put(leased, lease: lease))
            if case .found(let value?) = result, value.hasPrefix("settled ") {
                result = try etcd.change(key, if: .holds(value), .put(leased, lease: lease))
            }
            if result == .changed || result == .found(leased) { return lease }
            guard MonotonicTime.now < deadline else {
                guard case .found(let value?) = result else { continue }
                throw ArbiterError("etcd says that this guest is under another run's protection (\(value))")
            }
            usleep(300_000)
        }
    }

    // MARK: While it runs

    private func keepAlive(_ lease: String) throws(SystemError) {
        let thread = try Thread(name: "romulus-lease") { [self] in
            var lease: String? = lease
            var reasons = Reasons()
            while !isOver.load(ordering: .relaxed) {
                if let held = lease {
                    watch(held)
                    lease = nil
                    if isOver.load(ordering: .relaxed) { return }
                    reasons.tell("the lease was lost") { tellLost($0) }
                }
                do {
                    lease = try renew()
                    if lease == nil { return }
                    reasons = Reasons()
                    log.note("the lease in etcd is there again")
                } catch {
                    reasons.tell("\(error)") { tellLost($0) }
                    pause(milliseconds: 1000) { isOver.load(ordering: .relaxed) }
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
    private func watch(_ lease: String) {
        let keeping = ["/bin/sh", "-c", "\"$@\" & read -r _; kill 0", "romulus-lease"]
        guard let child = try? Subprocess(keeping + etcd.command(["lease", "keep-alive", lease])) else { return }
        var lastHeard = MonotonicTime.now
        while !isOver.load(ordering: .relaxed) {
            guard let piece = child.read(until: .now + .nanoseconds(milliseconds: 200)) else { break }
            let text = String(decoding: piece, as: UTF8.self)
            if text.contains("expired") || text.contains("rror") { break }
            if !piece.isEmpty { lastHeard = .now }
            if MonotonicTime.now - lastHeard > .nanoseconds(milliseconds: ttlSeconds * 1000) { break }
        }
        _ = child.end()
    }

    /// A new lease on the key, where the key is still nobody's or this run's; nil where it is decided.
    private func renew() throws -> String? {
        let lease = try etcd.grantLease(seconds: ttlSeconds)
        if try etcd.change(key, if: .holds(leased), .put(leased, lease: lease)) == .changed { return lease }
        return try etcd.change(key, if: .absent, .put(leased, lease: lease)) == .changed ? lease : nil
    }

    // MARK: The decision

    func decide(_ side: Side, note: (String) -> Void, isCancelled: () -> Bool) -> ArbiterVerdict? {
        var reasons = Reasons()
        while !isCancelled() {
            do throws(Etcd.Unreachable) {
                if let verdict = try ask(side, isCancelled) {
                    stopKeeping()
                    return verdict
                }
                reasons.tell("the primary still has its lease in etcd; waiting for it to end, or to be settled", note)
            } catch {
                if !isCancelled() { reasons.tell("etcd does not answer (\(error)); trying again", note) }
            }
            pause(milliseconds: 300, isCancelled)
        }
        return nil
    }

    /// The answer of a transaction may be lost, so a key that is settled for this side is a grant.
    private func ask(_ side: Side, _ isCancelled: () -> Bool) throws(Etcd.Unreachable) -> ArbiterVerdict? {
        let mine = settled(side)
        let granted = ArbiterVerdict.granted("etcd has settled it for this host")
        var result = try etcd.change(key, if: .absent, .put(mine, lease: nil), isCancelled: isCancelled)
        if side == .primary, result == .found(leased) {
            result = try etcd.change(key, if: .holds(leased), .put(mine, lease: nil), isCancelled: isCancelled)
        }
        switch result {
        case .changed: return granted
        case .found(mine): return granted
        case .found(let value?) where side == .backup && value.hasPrefix("leased \(run) "): return nil
        case .found(let value?): return .refused("etcd has `\(value)'")
        // Gone between the two transactions: ask again.
        case .found(nil): return nil
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

    func withdraw() {
        stopKeeping()
        _ = try? etcd.change(key, if: .holds(leased), .delete)
    }

    func test() -> [ArbiterTestLine] {
        let scratch = "romulus/test/\(getpid())"
        let begun = MonotonicTime.now
        do {
            let lease = try etcd.grantLease(seconds: ttlSeconds)
            guard try etcd.change(scratch, if: .absent, .put("test", lease: lease)) == .changed,
                try etcd.get(scratch) == "test", try etcd.change(scratch, if: .holds("test"), .delete) == .changed
            else {
                return [
                    .init(
                        text: "etcd does not keep what is written: is it shared by others than this cluster?",
                        isProblem: true)
                ]
            }
            let each = (MonotonicTime.now - begun).inMilliseconds / 4
            return [.init(text: "etcd grants, writes, reads and deletes, in \(each) ms each", isProblem: false)]
        } catch {
            return [
                .init(text: "etcd cannot be used (\(error)): is it up, and lease_endpoints right?", isProblem: true)
            ]
        }
    }
}
