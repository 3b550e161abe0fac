/// What an arbiter says to a side that asks whether it may run the guest. The first verdict is final; the text is the
/// reason, in an admin's words.
public enum ArbiterVerdict: Equatable, Sendable {
    case granted(String)
    case refused(String)
}

/// What an admin can say where there is no verdict: `romulus resume` and `romulus yield`.
public enum AdminWord: Equatable, Sendable {
    /// The copy on this host is the one that runs.
    case resume
    /// The copy on this host goes away.
    case yield
}
