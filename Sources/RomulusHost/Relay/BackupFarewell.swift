import RomulusCore

/// The backup's last word, which only whoever lets the replica run can say: until then the primary keeps its copy. It needs
/// nothing of the relay, which is gone by then.
public struct BackupFarewell: Sendable {
    let descriptor: Int32
    let ifItRuns: [UInt8]
    let ifItDoesNot: [UInt8]
    let nanoseconds: Int64

    /// Waits for a link that does not take it, but not for long.
    public func say(runs: Bool) {
        var rest = (runs ? ifItRuns : ifItDoesNot)[...]
        let deadline = MonotonicTime.now + nanoseconds
        let flags = DescriptorIO.setNonBlocking(descriptor)
        defer { DescriptorIO.restoreFlags(descriptor, flags) }
        var polls = PollSet()
        while !rest.isEmpty, MonotonicTime.now < deadline {
            switch rest.withUnsafeBytes({ DescriptorIO.write(descriptor, $0) }) {
            case .bytes(let count): rest = rest.dropFirst(count)
            case .wouldBlock:
                polls.reset()
                polls.add(descriptor, writing: true)
                polls.wait(until: deadline)
            case .endOfFile, .failed: return
            }
        }
    }
}
