/// What can go wrong, at any moment.
public enum Fault: String, CaseIterable, Sendable {
    case primaryPowerCut
    case backupPowerCut
    case linkCut
    case linkCutToBackup
    case linkCutToPrimary
    /// Both directions for less than a deadline.
    case shortLinkCut
    /// Longer than every deadline, then it heals.
    case longLinkCut
    case linkBroken
    case corruptedToBackup
    case corruptedToPrimary
    /// The whole host, guest and all, stands still, and goes on later.
    case primaryFrozen
    case backupFrozen
    case helperKilled
    /// And its guard looks after the guest, as long as the run is not over.
    case xlKilled
    /// The guest runs and nobody tends it; `xl` goes on later.
    case xlStopped
    /// The next BUFFER: the guest stays suspended, and no further epoch can begin.
    case bufferFails
    /// In a checkpoint it ends the save, and the guest cannot go on here.
    case deviceModelKilled
    case restorerFails
    /// The replica will not come up, whoever grants it.
    case restoreFailsAfterTheGrant
    case adminStops
    /// A planned reboot of its host.
    case backupIsAskedToStop
    case adminDestroys
    case guestShutsDown
    /// And its on_crash is `restart`.
    case guestCrashes
    /// Somebody else suspends it, keeps what it is, and destroys it here: `xl save`, `xl migrate`.
    case guestSavedAway
    /// Nobody reaches the arbiter for a while.
    case arbiterAway
    /// The admin looks at both hosts, and says what there is to say.
    case adminDecides
    /// Somebody takes away what leads the guest's output to its queue.
    case redirectRemoved
}

/// The moments at which a fault is tried.
public enum CutPoint: String, CaseIterable, Sendable {
    case beforeSuspend
    case suspended
    case dirtyMapRead
    case stagingCopied
    case resumed
    case midPageFrame
    case checkpointSent
    case epochComplete
    case acknowledgementSent
    case acknowledgementReceived
    case released
    /// No epoch follows, and the backup does not know that yet.
    case saveEnded
    /// It has not been answered yet.
    case farewellSent
    case arbiterAsked
    case activation
}

/// A mistake built into the performers, which the checks must catch.
public enum Sabotage: String, CaseIterable, Sendable {
    case releaseWhenSent
    case acknowledgeTooEarly
    case bufferTwice
    case forgetToBuffer
    case dropTheChecksum
    case encodeWhatIsNotSent
    case activateWithoutTheArbiter
    case activateAtOnceOnEndOfFile
    case activateFromAPartialEpoch
    case neverFreeze
    case thawOnAnySign
    case renewTheLeaseByHearing
    case openOutputOnSuspicion
    case leakOnYield
    case overruleARefusal
    case readOldMessagesInTheirOwnTime
    case overlookAnotherSuspension
    case decideWithoutLooking
    case overlookALostRedirect
    case forgetWhatComesWhileFrozen
    case leaveWithoutFarewell
    case overlookACrash
    /// The backup is told that it may discard before the guest runs.
    case leaveWithoutTheGuest
    /// The copy here goes when the other side is granted, and not when that runs.
    case refuseBeforeTheOtherRuns
    /// The guard is not told of the replica, and takes the guest for the only copy.
    case forgetTheReplica
    /// The guard of a dead `xl` lets go of the link before the guest stands still.
    case exitBeforeThePause
    /// The guard does not look at the lease.
    case overlookAStandstill
    /// The guard ends with the save, as if it were the helper's.
    case relieveAtTheSavesEnd
}

public enum ArbiterChoice: String, CaseIterable, Sendable {
    case none
    case fence
    case lease
}
