import CLinux
import CXen
import Glibc
import RomulusCore
import RomulusHost

/// What becomes of a run on the backup when libxl's restore has returned.
///
/// "Granted" and "runs" are two words. The primary's copy is kept, paused, until this one runs: so the primary, and the arbiter
/// where it keeps such things, hear of it when xl has unpaused it, which is when xl exits.
struct Restored {
    let outcome: BackupRelay.Outcome
    let arbiter: RunArbiter
    let incoming: String
    let at: MonotonicTime
    let log: Log

    /// libxl's INVALID_DOMID, whose macro has a cast.
    private static let noDomain = UInt32.max
    /// To be let run by this process.
    nonisolated(unsafe) private static var waiting: (restored: Restored, domain: Domain, process: pid_t)?

    /// - Parameter code: libxl's; what is returned is so too.
    func concluded(_ code: Int32, _ context: OpaquePointer?, _ domainID: inout UInt32) -> Int32 {
        switch outcome.end {
        case .failOver where code == 0:
            if outcome.isArbitrated, let objection = arbiter.objection() {
                log.error("\(objection): the replica here is destroyed")
                outcome.farewell?.say(runs: false)
                break
            }
            Self.waiting = (self, Domain(context: context, id: domainID), getpid())
            atexit { Restored.xlExits() }
            return 0
        case .failOver(let cause):
            log.error("\(cause); the restore failed, so the guest does NOT run here (xl's lines above say why)")
        case .discard(let cause):
            log.note("replica discarded: \(cause)")
        }
        // libxl has destroyed what it could not restore; what it could restore is ours to destroy.
        if let replica = Domain.named(incoming, context: context), !replica.destroy() {
            log.error("could not destroy the replica: do it with xl destroy \(replica.id)")
        }
        // As after any failure of libxl's own; else xl would destroy the domain again.
        domainID = Self.noDomain
        let wasGranted = if case .failOver = outcome.end { true } else { false }
        report(runs: false, insists: wasGranted)
        return code == 0 ? Int32(ERROR_FAIL.rawValue) : code
    }

    /// Not in the process that xl has left behind the guest.
    private static func xlExits() {
        guard let (restored, domain, process) = waiting, process == getpid() else { return }
        waiting = nil
        defer { restored.log.drain() }
        let facts = domain.facts()
        if facts.state != .gone, facts.state != .suspended, !facts.isPaused {
            restored.replicaRuns()
        } else {
            restored.replicaDoesNotRun(domain)
        }
    }

    private func replicaRuns() {
        outcome.farewell?.say(runs: true)
        guard case .failOver(let cause) = outcome.end else { return }
        let detected = (outcome.decidedAt - outcome.lastHeardAt).inMilliseconds
        let closed = (outcome.closedAt - outcome.decidedAt).inMilliseconds
        let restored = (at - outcome.closedAt).inMilliseconds
        log.warning(
            "failover: \(cause); going on from epoch \(outcome.lastEpoch.rawValue);"
                + " detected after \(detected) ms, stream closed after \(closed) ms more, restored after \(restored)"
                + " ms more; the guest runs here now, unprotected")
        report(runs: true, insists: true)
    }

    /// Destroyed first: nobody can unpause it afterwards, while the primary's copy goes on.
    private func replicaDoesNotRun(_ domain: Domain) {
        guard domain.state == .gone || domain.destroy() else {
            return log.error(
                "the replica was restored but not unpaused, and cannot be destroyed: the copy on the primary stays paused; keep"
                    + " one of them, with xl destroy \(domain.id) here, or there")
        }
        outcome.farewell?.say(runs: false)
        log.error("the replica was restored but xl did not unpause it, so the guest does NOT run here; it is destroyed")
        report(runs: false, insists: true)
    }

    /// An etcd that does not answer is waited for, and whoever does not want that ends xl.
    private func report(runs: Bool, insists: Bool) {
        romulus_release_signals()
        arbiter.report(runs: runs, insists: insists)
    }
}

/// The arbiter of a run on the backup, whose name is known when the primary has announced itself.
final class RunArbiter {
    let prepared: Arbiter?
    private let guest: String
    private let log: Log
    /// Once it was asked, or told. Written by the relay's thread, and read when that has ended or waits.
    nonisolated(unsafe) private var ofRun: Arbiter?

    init(_ prepared: Arbiter?, guest: String, _ log: Log) {
        self.prepared = prepared
        self.guest = guest
        self.log = log
    }

    func desk(run: UInt64) -> ArbiterDesk? {
        guard let arbiter = prepared?.of(run: run) else { return nil }
        ofRun = arbiter
        return try? ArbiterDesk(of: .backup, arbiter, guest: guest, log)
    }

    /// Why a replica that is about to run must not.
    func objection() -> String? { ofRun?.objection(to: .backup) }

    /// - Parameter insists: a copy was granted, and its other side waits.
    func report(runs: Bool, insists: Bool) {
        ofRun?.tellRest()
        ofRun?.report(runs: runs, by: .backup, insists: insists)
    }
}
