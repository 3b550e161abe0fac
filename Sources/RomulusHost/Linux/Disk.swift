import CXen

extension libxl_device_disk {
    /// Whether its contents are part of the guest's state; of an empty drive, and of what is only read, there are none.
    public var canBeWritten: Bool { readwrite != 0 && format != LIBXL_DISK_FORMAT_EMPTY }
}
