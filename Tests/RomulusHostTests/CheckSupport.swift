import RomulusCore

@testable import RomulusCheck
@testable import RomulusHost

extension HostReport {
    /// Of a host without a fault.
    static let good = HostReport(
        version: "1.2.3", activation: .active,
        xen: .known(.init(version: "4.17.4-pre", hasShadow: false, freeKiB: 4 << 20, takesFromDom0: false)),
        moduleProblems: [],
        settings: .known(
            .init(
                arbiter: .lease, arbiterTest: [.ok("etcd answers")], detectTimeoutMilliseconds: 1000,
                epochLimitMiB: nil, pageCacheMiB: nil)), dom0AvailableKiB: 4 << 20)

    func with(_ change: (inout HostReport) -> Void) -> HostReport {
        var copy = self
        change(&copy)
        return copy
    }

    func set(_ change: (inout Settings) -> Void) -> HostReport {
        guard var value = settings.value else { return self }
        change(&value)
        return with { $0.settings = .known(value) }
    }
}

extension LinkSamples {
    /// All alike.
    init(roundTripMilliseconds: Int, aheadMilliseconds: Int) {
        let roundTrip = Int64.nanoseconds(milliseconds: roundTripMilliseconds)
        let clock = roundTrip / 2 + .nanoseconds(milliseconds: aheadMilliseconds)
        let sample = Sample(sentNanoseconds: 0, otherNanoseconds: clock, receivedNanoseconds: roundTrip)
        self.init([sample, sample, sample])!
    }
}
