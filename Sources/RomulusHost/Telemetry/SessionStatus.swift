import Glibc
import RomulusCore

/// What a session says of itself when `romulus status` asks: one object of JSON. Times are milliseconds.
struct SessionStatus {
    var guest: String
    var side: Side
    /// One of the words of `SessionState`.
    var state: SessionState
    var epoch: Epoch
    var startedAt: MonotonicTime
    var lastEvent: Event?
    /// What only this side knows.
    var details: [JSON.Member]

    var json: JSON {
        var members: [JSON.Member] = [
            .init("guest", .string(guest)), .init("side", .string(side == .primary ? "primary" : "backup")),
            .init("state", .string(state.rawValue)), .init("epoch", .integer(Int64(clamping: epoch.rawValue))),
            .init("pid", .integer(Int64(getpid()))), .init("running_ms", .milliseconds(.now - startedAt)),
        ]
        members += details
        members.append(.init("last_event", lastEvent?.json ?? .null))
        return .object(members)
    }
}

/// How far a session has come.
public enum SessionState: String, Sendable, CaseIterable {
    /// Primary: there is no complete replica yet. Backup: the first copy arrives.
    case copying = "first copy"
    case protected
    /// Protected as far as stock Xen goes: the backup acknowledges nothing.
    case stock = "unacknowledged"
    /// Primary: protected, and an admin has paused the guest.
    case paused
    /// The link is silent: the guest stands still on the primary, and the arbiter, or an admin, is to decide.
    case frozen
    /// Backup: the primary is silent, and it is being decided.
    case deciding
    case ending

    init(of session: PrimarySession, isGuestPaused: Bool) {
        self =
            if session.hasEnded {
                .ending
            } else if session.isFrozen {
                .frozen
            } else if session.acknowledgedEpoch == .none {
                .copying
            } else if isGuestPaused {
                .paused
            } else {
                session.isFramed ? .protected : .stock
            }
    }

    init(of session: BackupSession) {
        self =
            if session.hasEnded {
                .ending
            } else if session.isSuspecting {
                .deciding
            } else if session.lastEpoch == .none {
                .copying
            } else {
                session.isFramed ? .protected : .stock
            }
    }
}

extension JSON {
    /// With a thousandth's precision.
    static func milliseconds(_ nanoseconds: Int64) -> JSON { .number(Double(nanoseconds / 1000) / 1000) }
}
