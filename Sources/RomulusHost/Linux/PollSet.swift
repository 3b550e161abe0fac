import Glibc
import RomulusCore

/// poll(2) over a handful of descriptors, each by its place among them.
public struct PollSet {
    private var entries: [pollfd] = []

    public init() {}

    public mutating func reset() { entries.removeAll(keepingCapacity: true) }

    /// A negative descriptor is never ready. Errors and hang-ups are always reported.
    @discardableResult
    public mutating func add(_ raw: Int32, reading: Bool = false, writing: Bool = false) -> Int {
        let events = (reading ? POLLIN : 0) | (writing ? POLLOUT : 0)
        entries.append(pollfd(fd: raw, events: Int16(events), revents: 0))
        return entries.count - 1
    }

    /// Waits until something is ready, or `deadline`.
    public mutating func wait(until deadline: MonotonicTime?) {
        var timeout: Int32 = -1
        if let deadline {
            let left = deadline - MonotonicTime.now
            timeout = left <= 0 ? 0 : Int32(clamping: (left + 999_999) / 1_000_000)
        }
        // An interrupted wait looks like a timeout; the caller's loop looks at its clock anyway.
        if poll(&entries, nfds_t(entries.count), timeout) < 0 {
            for index in entries.indices { entries[index].revents = 0 }
        }
    }

    public func isReady(_ index: Int) -> Bool { entries[index].revents != 0 }
    public func isBroken(_ index: Int) -> Bool { Int32(entries[index].revents) & (POLLERR | POLLHUP | POLLNVAL) != 0 }
}
