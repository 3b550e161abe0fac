/// What the backup says to have heard: a sign of life now and then, and the acknowledgement of an epoch.
struct HearingReports: Sendable {
    private var framesTaken: UInt64 = 0
    private var bytesSinceHeard = 0
    /// Room for one more epoch while this one waits for libxl; without it, its acknowledgement waits.
    private var hasRoom = true
    private(set) var isAcknowledgementDue = false

    /// Half of the least that the primary may have under way.
    private static let heardIntervalBytes = Int(SendWindow.leastBytes) / 2

    /// - Returns: what is due by it.
    mutating func frameTaken(bytes: Int, count: UInt64) -> Message? {
        framesTaken = count
        bytesSinceHeard += bytes
        return bytesSinceHeard >= Self.heardIntervalBytes ? heard() : nil
    }

    mutating func heard() -> Message {
        bytesSinceHeard = 0
        return .heard(frames: framesTaken)
    }

    mutating func setRoom(_ hasRoom: Bool) { self.hasRoom = hasRoom }
    mutating func epochCompleted() { isAcknowledgementDue = true }

    /// - Returns: nil where none is due, or has to wait.
    mutating func takeAcknowledgement(of epoch: Epoch) -> Message? {
        guard hasRoom, isAcknowledgementDue else { return nil }
        isAcknowledgementDue = false
        bytesSinceHeard = 0
        return .acknowledgement(epoch, frames: framesTaken)
    }
}
