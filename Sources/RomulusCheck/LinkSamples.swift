/// Round trips between two hosts, each with the other host's clock in the middle.
public struct LinkSamples: Equatable, Sendable {
    public struct Sample: Equatable, Sendable {
        var roundTripNanoseconds: Int64
        /// The other host's clock against this one's, if both ways took as long.
        var aheadNanoseconds: Int64

        /// Moments of this host's clock, and one of the other's between them.
        init(sentNanoseconds: Int64, otherNanoseconds: Int64, receivedNanoseconds: Int64) {
            roundTripNanoseconds = receivedNanoseconds &- sentNanoseconds
            aheadNanoseconds = otherNanoseconds &- (sentNanoseconds &+ roundTripNanoseconds / 2)
        }
    }

    private let samples: [Sample]

    /// - Returns: nil without a sample.
    init?(_ samples: [Sample]) {
        guard !samples.isEmpty else { return nil }
        self.samples = samples.sorted { $0.roundTripNanoseconds < $1.roundTripNanoseconds }
    }

    var medianRoundTripNanoseconds: Int64 { samples[samples.count / 2].roundTripNanoseconds }

    /// How far the clocks are certainly apart: by the fastest round trip, less what it leaves open. Ahead is positive.
    var clockDifferenceNanoseconds: Int64 {
        let best = samples[0]
        let open = best.roundTripNanoseconds / 2
        let apart = max(0, abs(best.aheadNanoseconds) - open)
        return best.aheadNanoseconds < 0 ? -apart : apart
    }
}
