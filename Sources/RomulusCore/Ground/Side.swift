/// Of a run, and of the link between its two hosts.
public enum Side: Sendable {
    case primary
    case backup
}
