import CLinux
import Glibc
import RomulusCore
import Synchronization
import Testing

@testable import RomulusHost

/// In a network namespace of the test's own. Whether the kernel has the modules decides which half is seen; the lab's has
/// them all.
@Suite(.serialized) struct NetworkBufferTests {
    /// Runs on a thread that has a network of its own, with these commands of ip(8) done.
    private func inside(_ setup: [String], _ body: @escaping @Sendable () -> Void) throws {
        let problem = Mutex<String?>(nil)
        let thread = try Thread(name: "network") {
            guard unshareNetwork() == 0 else { return problem.withLock { $0 = "unshare" } }
            for command in setup {
                let outcome = Subprocess.run(["/bin/sh", "-c", command], timeoutMilliseconds: 5000)
                if outcome.status != 0 { problem.withLock { $0 = outcome.complaint } }
            }
            if problem.withLock({ $0 == nil }) { body() }
        }
        thread.join()
        #expect(problem.withLock { $0 } == nil)
    }

    private static func links() -> String { Subprocess.run(["ip", "-o", "link"], timeoutMilliseconds: 5000).output }
    private static func queues() -> String { Subprocess.run(["tc", "qdisc"], timeoutMilliseconds: 5000).output }

    @Test func whatTheKernelLacksIsNamedAndNothingIsLeftBehind() throws {
        try inside(["ip link add vif77.0 type veth peer name far && ip link set vif77.0 up"]) {
            do throws(NetworkBufferError) {
                let buffer = try NetworkBuffer(
                    domainID: 77, limitBytes: 1 << 20, store: .naming([:]), log: Log(guest: "test"))
                #expect(buffer.deviceIDs == [0] && Self.links().contains("rom77.0"))
                #expect(Self.queues().contains("plug"))
                buffer.releaseEverything()
            } catch {
                guard case .missingModule(let name) = error else {
                    Issue.record("\(error)")
                    return
                }
                #expect(["sch_plug", "ifb", "sch_ingress", "cls_matchall", "act_mirred", "act_gact"].contains(name))
                #expect("\(error)".contains("modprobe \(name)"))
            }
            #expect(!Self.links().contains("rom77") && !Self.queues().contains("ingress"))
        }
    }

    @Test func aGuestWithoutANetworkNeedsNoBuffer() throws {
        try inside(["ip link add vif78.0 type veth peer name far", "ip link add vif7.0x type veth peer name farther"]) {
            do throws(NetworkBufferError) {
                let buffer = try NetworkBuffer(
                    domainID: 7, limitBytes: 1 << 20, store: .naming([:]), log: Log(guest: "test"))
                #expect(buffer.deviceIDs.isEmpty)
                try buffer.holdEpoch()
                try buffer.releaseEpoch()
                try buffer.holdEpoch()
                buffer.dropEverything()
            } catch {
                Issue.record("\(error)")
            }
        }
    }

    @Test func leftoversOfThisDomainAndOfDeadOnesAreRemovedAndNobodyElses() throws {
        try inside([
            "ip link add vif5.0 type veth peer name far5", "ip link add rom5.0 type ifb",
            "ip link add rom6.1 type ifb", "ip link add vif8.0 type veth peer name far8",
            "ip link add rom8.0 type ifb", "ip link add roman type veth peer name far",
        ]) {
            (try? Leftovers(on: RoutingSocket(), of: 5, store: .naming([:])))?.drop(Log(guest: "test"))
            let left = Self.links()
            #expect(!left.contains("rom5.0") && !left.contains("rom6.1"))
            #expect(left.contains("rom8.0") && left.contains("roman") && left.contains("vif5.0"))
        }
    }

    @Test func aNewDeviceIsHeardOf() throws {
        try inside([]) {
            guard let monitor = try? NetworkMonitor() else {
                Issue.record("no monitor")
                return
            }
            _ = Subprocess.run(
                ["ip", "link", "add", "vif9.0", "type", "veth", "peer", "name", "far"], timeoutMilliseconds: 5000)
            var polls = PollSet()
            polls.add(monitor.descriptor, reading: true)
            polls.wait(until: .now + 5_000_000_000)
            #expect(polls.isReady(0))
            #expect(monitor.drain() && !monitor.drain())
            polls.wait(until: .now)
            #expect(!polls.isReady(0))
        }
    }

    @Test func aQueueThatSomebodyRemovesIsHeardOfAndNewOnesAreNot() throws {
        try inside(["ip link add vif9.0 type veth peer name far"]) {
            guard let monitor = try? NetworkMonitor() else {
                Issue.record("no monitor")
                return
            }
            func run(_ command: String) { _ = Subprocess.run(["/bin/sh", "-c", command], timeoutMilliseconds: 5000) }
            run("tc qdisc add dev vif9.0 ingress")
            #expect(!monitor.drain())
            run("tc qdisc del dev vif9.0 ingress")
            #expect(monitor.drain())
        }
    }

    @Test func namesOfDevicesAreReadStrictly() {
        #expect(VifName(of: "vif5.0")?.ifb == "rom5.0")
        #expect(VifName(of: "vif32751.12-emu")?.ifb == "rom32751.12e")
        for bad in ["vif5", "vif5.0.1", "vif.0", "vif5.", "xvif5.0", "vif-5.0", "vif5.0-em"] {
            #expect(VifName(of: bad) == nil)
        }
        #expect(VifName(ofBackend: "backend/vif/5/1\n") == VifName(domainID: 5, deviceID: 1))
        #expect(VifName(ofBackend: "device/vif/0") == nil && VifName(ofBackend: "backend/vbd/5/0") == nil)
        #expect(VifName(ofIFB: "rom5.0e") == VifName(of: "vif5.0-emu"))
    }
}

/// unshare(CLONE_NEWNET), which module Glibc does not show.
private func unshareNetwork() -> Int32 {
    guard let symbol = dlsym(nil, "unshare") else { return -1 }
    return unsafeBitCast(symbol, to: (@convention(c) (Int32) -> Int32).self)(0x4000_0000)
}
