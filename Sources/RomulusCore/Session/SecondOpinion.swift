/// Somebody beside the failure detector who may know better why the primary is silent, and may only ask for patience.
///
/// However patient, it ends: `mostTimeouts` of silence are a suspicion whatever is said.
struct SecondOpinion: Sendable {
    static let mostTimeouts: Int64 = 10

    enum Advice: Equatable {
        case ask(timesBefore: Int)
        case wait
        case suspect
    }

    private enum Phase {
        case calm
        case asked
        case postponed(until: MonotonicTime)
        case agreed
    }

    private var phase = Phase.calm
    private var timesAsked = 0

    /// When there is something to do again, in a silence that the detector has had enough of since `deadline`.
    func deadline(_ deadline: MonotonicTime, timeoutNanoseconds: Int64) -> MonotonicTime {
        let last = deadline + timeoutNanoseconds * (Self.mostTimeouts - 1)
        switch phase {
        case .calm, .agreed: return deadline
        case .asked: return last
        case .postponed(let until): return min(until, last)
        }
    }

    /// The detector suspects, since `deadline`.
    mutating func suspected(
        since deadline: MonotonicTime, timeoutNanoseconds: Int64, now: MonotonicTime
    ) -> Advice {
        if now >= deadline + timeoutNanoseconds * (Self.mostTimeouts - 1) { return .suspect }
        switch phase {
        case .agreed: return .suspect
        case .asked: return .wait
        case .postponed(let until) where now < until: return .wait
        case .calm, .postponed:
            phase = .asked
            defer { timesAsked += 1 }
            return .ask(timesBefore: timesAsked)
        }
    }

    /// - Parameter patienceNanoseconds: 0 agrees that the primary is to be suspected.
    mutating func answered(patienceNanoseconds: Int64, now: MonotonicTime) {
        guard case .asked = phase else { return }
        phase = patienceNanoseconds <= 0 ? .agreed : .postponed(until: now + patienceNanoseconds)
    }

    /// The detector suspects nobody.
    mutating func heard() { self = SecondOpinion() }
}
