/// Which epochs of output are closed and not released: sch_plug remembers one.
///
/// A BUFFER command notes how many packets the epoch had that it closes, over whatever was noted before. A second one
/// before a RELEASE would lose the first epoch's count: its packets would stay in front, be let out in the next epoch's
/// place, and everything would leave one epoch late for ever. So no epoch is closed before the last one is released,
/// which the order of a run gives: the next checkpoint begins with the commit, and the commit comes after the release.
public struct OutputEpochs: Equatable, Sendable {
    public struct NotReleased: Error, Equatable, Sendable {}

    private enum State {
        /// Nothing is held.
        case open
        /// The epoch under way is held.
        case holding
        /// The epoch under way and the one before it are held.
        case holdingTwo
    }

    private var state = State.open

    public init() {}

    public var isHolding: Bool { state != .open }

    /// Before the BUFFER command. What left before the first one was nobody's epoch.
    public mutating func hold() throws(NotReleased) {
        switch state {
        case .open: state = .holding
        case .holding: state = .holdingTwo
        case .holdingTwo: throw NotReleased()
        }
    }

    /// Before the RELEASE_ONE command.
    public mutating func release() {
        if state == .holdingTwo { state = .holding }
    }

    public mutating func open() { state = .open }
}
