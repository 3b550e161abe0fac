import RomulusCore

/// What the primary's relay does to the guest itself, from its own thread.
public struct GuestPort: Sendable {
    /// Whether it has gone, and how; and whether a checkpoint of ours may have suspended it.
    public var leave: @Sendable (_ isCheckpointing: Bool) -> PrimarySession.GuestLeave?
    /// Nil where it is gone, or not to be seen.
    public var standing: @Sendable () -> GuestStanding?
    /// Whether its device model lives, where it has one: without it the guest cannot go on.
    public var isServed: @Sendable () -> Bool
    /// Whether somebody is there to pause it if this process dies.
    public var isGuarded: @Sendable () -> Bool = { true }
    /// Its processors stand still when this returns true, whatever else happens to it, until `thaw`.
    public var freeze: @Sendable () -> Bool
    public var thaw: @Sendable () -> Bool
    /// Whoever still waits for the guest to suspend need not. True for a copy that must never run again, and is to be
    /// destroyed: it stands still as one that has suspended. False for one that has left by itself.
    public var giveUp: @Sendable (_ mustNotRun: Bool) -> Void

    public init(
        leave: @escaping @Sendable (_ isCheckpointing: Bool) -> PrimarySession.GuestLeave?,
        standing: @escaping @Sendable () -> GuestStanding?, isServed: @escaping @Sendable () -> Bool,
        freeze: @escaping @Sendable () -> Bool, thaw: @escaping @Sendable () -> Bool,
        giveUp: @escaping @Sendable (Bool) -> Void
    ) {
        self.leave = leave
        self.standing = standing
        self.isServed = isServed
        self.freeze = freeze
        self.thaw = thaw
        self.giveUp = giveUp
    }
}
