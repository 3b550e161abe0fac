import RomulusCheck

/// What can be done to a guest that nobody protects any more.
protocol OrphanHost: AnyObject {
    var state: LocalGuest.State? { get }
    var isOutputHeld: Bool { get }
    func releaseOutput()
    /// What libxl had ordered when its xl was killed: the guest would take it as soon as it runs.
    func takeSuspendOrder()
    func resume() -> Bool
    func unpause() -> Bool
    func pause() -> Bool
    /// The run that was killed had a replica, which may run by now.
    var hasReplica: Bool { get }
    func forgetReplica()
    /// Whether `secure` has seen to it since that run was killed.
    var isSecured: Bool { get }
    func noteSecured()
    func say(_ text: String)
    var id: UInt32 { get }
    func wait(milliseconds: Int)
}

/// A guest whose `xl remus` was killed: its copy was paused, or was left suspended, and its output is still held.
struct OrphanedGuest {
    /// More pauses than anybody has counted up.
    private static let mostPauses = 32
    /// For a guest that had taken an order to suspend just before it was paused.
    private static let settlingMilliseconds = 500

    let host: OrphanHost

    /// Lets the guest go on, and then its output its own way again: as long as it does not run, the replica may still be the
    /// one that does, and must know whatever was seen.
    ///
    /// - Returns: what was done.
    func resume() throws -> String {
        guard let state = host.state, !state.hasEnded else {
            throw failure("the guest has shut down or is going: there is nothing to resume")
        }
        let wasHeld = host.isOutputHeld
        guard state.isPaused || state.isSuspended || wasHeld else {
            throw failure("no xl remus of it runs here; the guest runs and its output leaves: nothing to resume")
        }
        host.takeSuspendOrder()
        var pauses = 0
        var wasSuspended = try endSuspension()
        while host.state?.isPaused == true, pauses < Self.mostPauses, host.unpause() { pauses += 1 }
        host.wait(milliseconds: Self.settlingMilliseconds)
        if try endSuspension() { wasSuspended = true }
        guard let now = host.state, now == LocalGuest.State() else {
            throw failure("the guest does not run, and its output stays held: look at xl list, and say it again")
        }
        // The admin's word: no replica runs, and none will.
        host.forgetReplica()
        if wasHeld { host.releaseOutput() }
        guard !host.isOutputHeld else {
            throw failure("the guest runs, but its output could not be let out: the lines above say what to remove")
        }
        var done: [String] = []
        if wasSuspended { done.append("it was left suspended, and is resumed") }
        if pauses > 0 { done.append(pauses == 1 ? "it is unpaused" : "it is unpaused, \(pauses) times") }
        if wasHeld { done.append("what was held of its output has left") }
        return done.joined(separator: "; ")
    }

    /// Where nobody else has: a guard that was killed together with its xl looks after nothing.
    func secure() throws {
        guard host.hasReplica, !host.isSecured, let state = host.state, !state.hasEnded else { return }
        if state.isPaused { return host.noteSecured() }
        guard host.pause() else {
            throw failure("xl remus was killed and the copy here could not be paused: stop it, the backup takes over")
        }
        host.noteSecured()
        host.say(
            "xl remus was killed: the backup takes over; the copy here is paused: remove it with xl destroy \(host.id) once the"
                + " guest runs there")
    }

    /// - Returns: whether it was suspended.
    private func endSuspension() throws -> Bool {
        guard host.state?.isSuspended == true else { return false }
        guard host.resume() else {
            throw failure(
                "the guest is suspended and cannot be resumed, so its output stays held: say romulus resume again, or remove"
                    + " the guest with xl destroy")
        }
        return true
    }
}
