import Glibc
import RomulusCore
import Testing

@testable import RomulusHost

/// Whatever is done to a host's network devices, the world sees nothing of an epoch that is not released.
@Suite struct HeldOutputTests {
    private let network = SimulatedNetwork()
    private let spoken = TestFolder()
    private var log: Log { Log(guest: "test", events: events) }
    private var events: EventFile { EventFile(path: spoken.path + "/events", limitBytes: 1 << 20) }
    private var lines: [String] { events.events()?.map(\.text) ?? [] }

    private func buffer(of domainID: UInt32, chosen: [String: Int] = [:]) throws -> NetworkBuffer {
        try NetworkBuffer(
            on: network, domainID: domainID, limitBytes: 1 << 20, store: .naming(chosen), log: log)
    }

    /// A run with one epoch committed, and one under way of which `packet` is.
    private func protect(_ domainID: UInt32, sending packet: String, from vif: String) throws -> NetworkBuffer {
        let buffer = try buffer(of: domainID)
        try buffer.holdEpoch()
        try buffer.releaseEpoch()
        network.send(packet, from: vif)
        return buffer
    }

    private func vif(_ domainID: UInt32, _ deviceID: Int = 0) -> VifName {
        VifName(domainID: domainID, deviceID: deviceID)
    }

    // MARK: Leftovers

    @Test func whatAKilledRunHeldIsNeverSeen() throws {
        network.plug(in: "vif5.0", backend: vif(5))
        let killed = try protect(5, sending: "of no epoch", from: "vif5.0")
        try Leftovers(on: network, of: 5, store: .naming([:])).drop(log)
        #expect(network.seen == [])
        #expect(!network.names.contains("rom5.0") && network.redirected.isEmpty)
        withExtendedLifetime(killed) {}
    }

    @Test func whatAGuestThatGoesOnHeldIsReleased() throws {
        network.plug(in: "web1", backend: vif(5))
        let killed = try protect(5, sending: "its own", from: "web1")
        let leftovers = try Leftovers(on: network, of: 5, store: .naming([:]))
        #expect(leftovers.areThere)
        leftovers.release(log)
        #expect(network.seen == ["its own"])
        #expect(network.names == ["web1"] && network.redirected.isEmpty)
        #expect(try !Leftovers(on: network, of: 5, store: .naming([:])).areThere)
        withExtendedLifetime(killed) {}
    }

    @Test func aRenamedDeviceOfAnotherGuestIsNoLeftover() throws {
        network.plug(in: "web1", backend: vif(5))
        network.plug(in: "vif6.0", backend: vif(6))
        let one = try protect(5, sending: "held", from: "web1")
        try Leftovers(on: network, of: 6, store: .naming([:])).drop(log)
        #expect(network.names.contains("rom5.0") && network.redirected == ["web1"])
        #expect(network.seen == [])
        withExtendedLifetime(one) {}
    }

    // MARK: Names

    @Test func theEmulatedCardOfARenamedDeviceIsHeldToo() throws {
        network.plug(in: "web1", backend: vif(5))
        network.plug(in: "web1-emu")
        network.plug(in: "web2-emu")
        let one = try buffer(of: 5, chosen: ["web1": 0])
        #expect(network.names.isSuperset(of: ["rom5.0", "rom5.0e"]))
        #expect(network.redirected == ["web1", "web1-emu"])
        withExtendedLifetime(one) {}
    }

    @Test func aDeviceThatIsRenamedBehindItsAttachingIsHeldAllTheTime() throws {
        let one = try buffer(of: 5)
        try one.holdEpoch()
        network.plug(in: "vif5.1", backend: vif(5, 1))
        try one.linksChanged()
        network.rename("vif5.1", "web1")
        network.send("held", from: "web1")
        try one.linksChanged()
        network.send("held too", from: "web1")
        #expect(network.seen == [] && network.redirected == ["web1"])
        try one.releaseEpoch()
        try one.holdEpoch()
        try one.releaseEpoch()
        #expect(network.seen == ["held", "held too"])
        #expect(!lines.contains { $0.contains("has gone") || $0.contains("NOT held") }, "\(lines)")
    }

    // MARK: A script's devices

    /// Half a minute is what it may take, and a guest's lease is shorter.
    @Test func aScriptThatTakesItsTimeHoldsUpNobody() throws {
        try spoken.write("script", "#!/bin/sh\nsleep 1\n", mode: 0o755)
        let one = try NetworkBuffer(
            on: network, domainID: 5, limitBytes: 1 << 20, store: .naming([:], ifb: "its-own"),
            script: spoken("script"), log: log)
        try network.addPlug(try network.addIFB("its-own"), limitBytes: 1 << 20)
        network.plug(in: "vif5.1", backend: vif(5, 1))
        let begin = MonotonicTime.now
        try one.holdEpoch()
        try one.releaseEpoch()
        #expect((MonotonicTime.now - begin).inMilliseconds < 500)
        for _ in 0..<500 where one.deviceIDs.isEmpty {
            one.linksAreQuiet()
            usleep(10_000)
        }
        #expect(one.deviceIDs == [1])
        #expect(lines == ["vif5.1 has come and is buffered from now on"])
        network.remove("vif5.1")
        let end = MonotonicTime.now
        try one.linksChanged()
        #expect((MonotonicTime.now - end).inMilliseconds < 500)
        #expect(one.deviceIDs.isEmpty)
    }

    // MARK: What others do

    @Test func aRedirectThatSomebodyRemovesIsMadeAgain() throws {
        network.plug(in: "vif5.0", backend: vif(5))
        let one = try protect(5, sending: "first", from: "vif5.0")
        network.clearIngress("vif5.0")
        network.send("slipped through", from: "vif5.0")
        try one.linksChanged()
        network.send("second", from: "vif5.0")
        #expect(network.seen == ["slipped through"])
        #expect(lines.contains { $0.contains("vif5.0") && $0.contains("for at most") }, "\(lines)")
        try one.holdEpoch()
        try one.releaseEpoch()
        #expect(network.seen == ["slipped through", "first", "second"])
    }

    @Test func aPlugThatSomebodyRemovesIsMadeAgain() throws { try expectMadeAgain { $0.removePlug("rom5.0") } }

    @Test func aBufferDeviceThatSomebodyRemovesIsMadeAgain() throws { try expectMadeAgain { $0.remove("rom5.0") } }

    private func expectMadeAgain(after remove: (SimulatedNetwork) -> Void) throws {
        network.plug(in: "vif5.0", backend: vif(5))
        let one = try protect(5, sending: "lost", from: "vif5.0")
        remove(network)
        try one.linksChanged()
        network.send("second", from: "vif5.0")
        #expect(network.seen == [])
        try one.holdEpoch()
        try one.releaseEpoch()
        #expect(network.seen == ["second"])
    }

    @Test func whereSomebodyElsesFilterStandsTheRunEnds() throws {
        network.plug(in: "vif5.0", backend: vif(5))
        let one = try protect(5, sending: "first", from: "vif5.0")
        network.occupyIngress("vif5.0")
        #expect(throws: NetworkBufferError.ingressInUse(device: "vif5.0")) { try one.linksChanged() }
    }

    /// Nobody knows then what is held.
    @Test func whereTheDevicesCannotBeLookedAtTheRunEnds() throws {
        network.plug(in: "vif5.0", backend: vif(5))
        let one = try protect(5, sending: "first", from: "vif5.0")
        network.clearIngress("vif5.0")
        let failure = NetworkBufferError.refused(what: "the list", device: "network devices", reason: "no memory")
        network.failure = failure
        #expect(throws: failure) { try one.linksChanged() }
    }

    /// However late the news is read, no epoch ends before it is.
    @Test func whatWasRemovedIsNoticedBeforeAnEpochIsClosed() throws {
        network.plug(in: "vif5.0", backend: vif(5))
        let one = try protect(5, sending: "first", from: "vif5.0")
        network.clearIngress("vif5.0")
        try one.holdEpoch()
        #expect(network.redirected == ["vif5.0"])
    }
}

extension NetbufStore {
    static func naming(_ chosen: [String: Int], ifb: String? = nil) -> NetbufStore {
        NetbufStore(
            path: { "\($0)" }, setIFB: { _, _ in }, ifb: { _ in ifb }, renamed: { chosen }, domainExists: { $0 < 6 })
    }
}
