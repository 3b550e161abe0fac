// What the primary's session is told, what it says, and how a run ends.

extension PrimarySession {
    public struct Configuration: Sendable {
        public var guest: String
        /// How long the link may stand still before there is a replica, or with a stock backup.
        public var patienceNanoseconds: Int64
        /// Without a back channel nobody can answer (`-b`): the stream is stock from its first byte to its last.
        public var hasBackChannel: Bool
        public var arbiter: ArbiterKind
        /// The admin accepts a backup that acknowledges nothing (`-F`).
        public var isUnsafeAccepted: Bool

        public init(
            guest: String, patienceNanoseconds: Int64, hasBackChannel: Bool, arbiter: ArbiterKind,
            isUnsafeAccepted: Bool
        ) {
            self.guest = guest
            self.patienceNanoseconds = patienceNanoseconds
            self.hasBackChannel = hasBackChannel
            self.arbiter = arbiter
            self.isUnsafeAccepted = isUnsafeAccepted
        }
    }

    public enum Event: Equatable, Sendable {
        /// Bytes of any kind arrived on the back channel.
        case heard
        case received(Message)
        /// Bytes were written to the link, or nothing waits to be written.
        case linkMoved
        case framesBegun
        /// The guest is suspended for its next checkpoint: its output up to here belongs to the epoch under way.
        case guestSuspended
        /// The first CHECKPOINT record has left, so no private record may follow in a stock stream.
        case firstCheckpointSent
        /// All of an epoch, CHECKPOINT_END (and EPOCH_END) included, has been written.
        case epochSent
        /// The guest is paused, and its next epoch waits for that to end. Told again as long as that is so.
        case epochPutOff
        case linkBroken(String)
        case stopRequested(signalName: String)
        case guestLeft(GuestLeave)
        /// The guest has what its replica has not (`GuestShape`). Told again as long as that is so.
        case replicaLacks(String)
        /// The stock save is over, or cannot go on, and why.
        case saveEnded(String)
        /// The guest's output cannot be held any more: it must not run before the replica is gone.
        case outputUnheld(String)
        /// The answer to `resumeGuest`.
        case guestResumed(Bool)
        case verdict(ArbiterVerdict)
        case adminSaid(AdminWord)
    }

    public enum Action: Equatable, Sendable {
        /// Write FRAMES_BEGIN at the next boundary between libxc records; report `framesBegun`.
        case beginFrames(LinkTerms)
        case send(Message)
        /// Close the output of the epoch under way and hold what follows. Done before the guest runs again.
        case holdOutput(Epoch)
        /// Let the output of the oldest held epoch out.
        case releaseOutput(Epoch)
        /// The backup has all of this epoch (or, with a stock backup, the link has): the next one may begin.
        case commit(Epoch)
        /// Take no further checkpoint; nothing more of the stream is to be sent.
        case stopSave
        /// When the save is over, have the guest run here if it was left suspended, with its output held as it is; report
        /// `guestResumed`.
        case resumeGuest
        /// The guest's processors stand still until `thawGuest`.
        case freezeGuest
        case thawGuest
        case askArbiter
        /// Let out everything, and hold nothing any more.
        case openOutput
        /// The same once the guest has been seen to run here, with the run ended; drop it where the guest cannot: the replica may
        /// be granted it then.
        case openOutputIfGuestRuns
        /// Throw away what is held, and let nothing out any more.
        case dropOutput
        case log(LogLine)
        case end(End)
    }

    /// How a guest can be gone without any failure.
    public enum GuestLeave: Equatable, Sendable {
        /// Powered off or rebooted.
        case shutDown
        case crashed
        case destroyed
        /// Somebody else has suspended it, to save or to migrate it: it goes on from what they have, if anywhere.
        case taken
    }

    /// How a run ended, and what becomes of the guest here.
    public struct End: Equatable, Sendable {
        public var cause: Cause
        public var fate: Fate

        public init(cause: Cause, fate: Fate) {
            self.cause = cause
            self.fate = fate
        }
    }

    public enum Cause: Equatable, Sendable {
        case saveEnded(String)
        case stopRequested(signalName: String)
        case guestLeft(GuestLeave)
        case replicaLacks(String)
        case linkBroken(String)
        case backupSilent(milliseconds: Int)
        case backupLeft(text: String)
        case refused(String)
    }

    public enum Fate: Equatable, Sendable {
        /// It runs on here, unprotected.
        case goesOn(Replica)
        /// It must not run here again: the replica does, or may. Why.
        case yields(String)
        /// It has left by itself, the admin has destroyed it, or somebody else has it.
        case hasLeft(Replica)
    }

    public enum Replica: Equatable, Sendable {
        /// There was no complete one.
        case none
        case discarded
        /// It will not run: the arbiter's, or the admin's, word.
        case ruledOut(String)
        /// A stock backup's, of which nothing is known.
        case unknown
    }

    public struct ComposedFrame: Equatable, Sendable {
        public enum Kind: Sendable {
            case data
            case epochEnd
            case message
        }

        public var bytes: Int
        public var kind: Kind

        public init(bytes: Int, kind: Kind) {
            self.bytes = bytes
            self.kind = kind
        }
    }
}

extension Message {
    public var composedKind: PrimarySession.ComposedFrame.Kind {
        if case .epochEnd = self { .epochEnd } else { .message }
    }
}

extension PrimarySession.End {
    /// A farewell is not likely to be heard.
    public var isBackupLost: Bool {
        if case .goesOn(.ruledOut) = fate { true } else { cause.isOfLink }
    }

    /// The guest goes on here, or it has left by itself. One that was destroyed is the backup's.
    public var isReplicaUnwanted: Bool {
        switch cause {
        case .stopRequested, .saveEnded, .replicaLacks, .refused, .guestLeft(.shutDown), .guestLeft(.crashed),
            .guestLeft(.taken):
            true
        case .guestLeft(.destroyed), .linkBroken, .backupSilent, .backupLeft: false
        }
    }
}

extension PrimarySession.Cause {
    /// Nobody wanted the run to end.
    var isOfLink: Bool {
        switch self {
        case .linkBroken, .backupSilent: true
        case .saveEnded, .stopRequested, .guestLeft, .replicaLacks, .backupLeft, .refused: false
        }
    }

    public var isOfGuest: Bool { if case .guestLeft = self { true } else { false } }

    /// What happened, without what becomes of the guest.
    public var text: String {
        switch self {
        case .saveEnded(let why): "checkpointing failed (\(why))"
        case .stopRequested(let signal): "protection ended by \(signal)"
        case .guestLeft(.shutDown): "the guest has shut down"
        case .guestLeft(.crashed): "the guest has crashed"
        case .guestLeft(.destroyed): "the domain was destroyed here"
        case .guestLeft(.taken): "somebody else has suspended the guest (xl save or xl migrate)"
        case .replicaLacks(let what): "the guest is no longer as its replica is (\(what))"
        case .linkBroken(let reason): reason
        case .backupSilent(let milliseconds): "the backup has heard nothing for \(milliseconds) ms"
        case .backupLeft(let text): "the backup gave up (\(text))"
        case .refused(let why): why
        }
    }
}
